"""`python -m workbench`: the command line."""

from workbench.cli.main import app

if __name__ == "__main__":
    app(prog_name="python -m workbench")
