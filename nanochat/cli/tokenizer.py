"""`nanochat tokenizer`: a vocabulary to and from the files of other programs (nanochat/text/formats.py)."""

from pathlib import Path

import click

from nanochat.errors import InputError, wrong_input
from nanochat.recipe.notation import value_text


@click.group("tokenizer")
def command() -> None:
    """Take a tokenizer to tiktoken or Hugging Face, or one from there to a recipe."""


@command.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def export_file(folder: Path, file: Path) -> None:
    """Write the tokenizer of FOLDER (a stage's result, or a checkpoint) to FILE: NAME.tiktoken, or NAME.json.

    JSON is Hugging Face's tokenizer.json; it has the specials, and needs their package here.
    """
    from nanochat.recipe.artifacts import artifact_in
    from nanochat.text.formats import write_huggingface, write_tiktoken
    from nanochat.text.tokenizer import Tokenizer

    writers = {".tiktoken": write_tiktoken, ".json": write_huggingface}
    if file.suffix not in writers:
        raise _wrong_suffix(file)
    _refuse_to_overwrite(file)
    tokenizer = Tokenizer.load(artifact_in(folder))
    try:
        writers[file.suffix](tokenizer.vocabulary, file)
    except OSError as error:
        raise _not_written(file, error) from error
    click.echo(f"wrote {file}")
    if file.suffix == ".tiktoken":
        click.echo(f"it has no pattern and no specials: the pattern is {tokenizer.vocabulary.pattern}")


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pattern", help="The split pattern that a .tiktoken file was made with, which is not in it.")
def import_file(file: Path, folder: Path, pattern: str | None) -> None:
    """Make FOLDER a tokenizer for recipes of FILE: a .tiktoken file, or a tokenizer.json of a byte-level BPE."""
    from nanochat.text.formats import read_huggingface, read_tiktoken
    from nanochat.text.tokenizer import Tokenizer
    from nanochat.text.vocabulary_file import FILE_NAME

    if file.suffix == ".tiktoken" and pattern is None:
        message = f"{file.name} does not hold its split pattern: --pattern is missing"
        raise wrong_input("E407", message, help="give the pattern that the file's author names, in quotes")
    if file.suffix != ".tiktoken" and pattern is not None:
        message = f"--pattern goes with a .tiktoken file alone; {file.name} holds its own"
        raise wrong_input("E407", message, help="leave it out")
    if file.suffix not in (".tiktoken", ".json"):
        raise _wrong_suffix(file)
    _refuse_to_overwrite(folder / FILE_NAME)
    vocabulary = read_huggingface(file) if pattern is None else read_tiktoken(file, pattern=pattern)
    try:
        tokenizer = Tokenizer(vocabulary)
        tokenizer.save(folder)
    except OSError as error:
        raise _not_written(folder, error) from error
    used = value_text(f"path:{folder.resolve()}")  # a recipe's paths are relative to its file, not to this shell
    click.echo(f"wrote {folder / FILE_NAME}, {tokenizer.vocab_size:,} ids; in a recipe: tokenizer = {used}")


def _refuse_to_overwrite(path: Path) -> None:
    if path.exists():
        raise wrong_input("E407", f"{path} is there already", help="name another place, or remove it first")


def _wrong_suffix(file: Path) -> InputError:
    return wrong_input(
        "E407",
        f"{file.name} does not say in which format it is",
        help="name it NAME.tiktoken for tiktoken, or NAME.json for Hugging Face",
    )


def _not_written(path: Path, error: OSError) -> InputError:
    return wrong_input("E407", f"{path} cannot be written ({error.strerror})", help="name a place that can be written")
