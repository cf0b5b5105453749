"""The command line: `retouch`, or `python -m workbench`. One module a group of commands; `main.app` is all of them."""
