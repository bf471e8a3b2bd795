"""Print the values pip would use for one of its settings, one a line, leaving out places that do not answer.

uv reads neither pip.conf nor the PIP_* variables, so set-up passes on what the user has told pip:

    $ python scripts/pip_setting.py find-links
    /srv/wheels
"""

import ast
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

# pip lets a later source win: the environment over `[install]` over `[global]`
SOURCES = (":env:.", "install.", "global.")


def configured(name: str) -> list[str]:
    """The values of `name` in pip's configuration; pip separates several by white space."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = dict(line.split("=", 1) for line in listing.splitlines() if "=" in line)
    for source in SOURCES:
        if source + name in settings:
            return str(ast.literal_eval(settings[source + name])).split()
    return []


def answers(location: str, seconds: float = 5.0) -> bool:
    """Whether a path exists, or a server says anything at all."""
    url = urlparse(location)
    if url.scheme == "file":
        return Path(url2pathname(url.path)).exists()
    if url.scheme not in ("http", "https"):
        return Path(location).expanduser().exists()
    try:
        urllib.request.urlopen(location, timeout=seconds).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    for place in configured(sys.argv[1]):
        if answers(place):
            print(place)
        else:
            print(f"setup: pip is told to look at {place}, which does not answer; left out", file=sys.stderr)
