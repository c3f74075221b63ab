"""``pmdaemon completion``: what makes a shell complete commands, options and the names of processes."""

import click

__all__ = ["completion_command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, and the names of processes.

    \b
      echo 'eval "$(pmdaemon completion bash)"' >> ~/.bashrc
      echo 'eval "$(pmdaemon completion zsh)"' >> ~/.zshrc
      pmdaemon completion fish > ~/.config/fish/completions/pmdaemon.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, "click knows the three shells"
    print(found(ctx.find_root().command, {}, "pmdaemon", "_PMDAEMON_COMPLETE").source())
