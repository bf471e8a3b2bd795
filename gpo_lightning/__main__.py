"""``python -m gpo_lightning`` is the ``gpo`` command."""

from gpo_lightning.cli import main

if __name__ == "__main__":
    main()
