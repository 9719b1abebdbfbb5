"""`dfwe`, or `python -m dfwe.run`; a signal ends it in order, from its first imports on."""

from dfwe.signals import stoppable


def main() -> None:
    """The command, and how a signal ends it."""
    with stoppable():
        from dfwe.cli import main as command

        command()


if __name__ == "__main__":
    main()
