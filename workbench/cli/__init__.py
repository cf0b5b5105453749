"""The command line: `python -m workbench`. One module a group of commands; `main.app` is all of them."""
