"""What other libraries make of our losses, written down number by number, so that tests can do without the libraries.

Every value and every gradient comes from running the code of trl, verl or OpenRLHF as released; nothing of
gpo_lightning is imported, and no equation of a loss is written down here. What is ours: the inputs, drawn until every
clip, clamp and mask does something, and what a trainer's method is handed in place of model, accelerator and settings.

How the code is reached:
    trl         methods of trainers that were never initialised (`trainers`); where a formula is buried in a longer
                method, its statements are cut out of the source and run (`cut_out`)
    verl        its modules, with stand-ins for the packages they import but do not need here (`libraries`)
    OpenRLHF    its loss modules, likewise

The environment is described in tests/losses/reference/README.md.
"""
