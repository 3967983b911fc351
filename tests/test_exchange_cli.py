"""`nanochat export` and `nanochat import` as a person uses them, and what came in at work: chat, eval, finetuning."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_exchange import classic, no_network, weights_of
from test_public_layout import current, encoding, first_release

from nanochat.cli.main import main
from nanochat.exchange import huggingface
from nanochat.exchange.checkpoint_folder import write_model
from nanochat.model.gpt import GPT
from nanochat.printable import printable
from nanochat.recipe.load import load_recipe
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.testing.tiny import tiny_model, tiny_tokenizer
from nanochat.text.formats import write_tiktoken
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint import load_checkpoint

__all__ = ["no_network"]
RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tests work; exports go to the current folder unless they are told."""
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nanochat(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert done.value.code == code, err
    return err if code else out


def made(folder: Path, model: GPT) -> Path:
    write_model(weights_of(model), folder, load_registry())
    return folder


def test_a_classic_model_goes_to_hugging_face_and_comes_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = made(home / "classic", classic())
    said = nanochat(capsys, "export", checkpoint, "--format", "hf")
    assert said == 'wrote classic-hf; in Python: AutoModelForCausalLM.from_pretrained("classic-hf")\n'
    said = nanochat(capsys, "import", "classic-hf", "back", "--tool", "calculator")
    parameters = sum(tensor.numel() for tensor in classic().parameters())
    assert said == f"wrote back, d3_w48_h4, {parameters:,} parameters; try it: nanochat chat back\n"
    loaded = load_checkpoint(home / "back", local_runtime(), load_registry())
    sent = load_file(checkpoint / "model.safetensors")
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor[:300], sent[name][:300])
    assert [type(tool).__name__ for tool in loaded.tools] == ["Calculator"]


def test_any_model_goes_out_as_safetensors_and_the_folder_is_a_checkpoint(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = made(home / "current", tiny_model())
    assert "E408" in nanochat(capsys, "export", checkpoint, "--format", "hf", code=2)
    assert not (home / "current-hf").exists()
    nanochat(capsys, "export", checkpoint, "--format", "safetensors", "-o", "out/plain")
    for name in ("model.safetensors", "meta.json", "tokenizer.json"):
        assert (home / "out/plain" / name).read_bytes() == (checkpoint / name).read_bytes()
    answer = nanochat(capsys, "complete", "out/plain", "-p", "The 4 small", "--max-tokens", "8")
    assert answer == nanochat(capsys, "complete", checkpoint, "-p", "The 4 small", "--max-tokens", "8")
    assert "E407" in nanochat(capsys, "export", checkpoint, "--format", "safetensors", "-o", "out/plain", code=2)


def test_the_state_of_training_stays_behind(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = made(home / "trained", tiny_model())
    (checkpoint / "optim-0.safetensors").write_bytes(b"twice the size of the model")
    nanochat(capsys, "export", checkpoint, "--format", "safetensors")
    written = {path.name for path in (home / "trained-safetensors").iterdir()}
    assert written == {"model.safetensors", "meta.json", "tokenizer.json", "MANIFEST.json"}


def test_a_public_checkpoint_answers_as_its_weights_say(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, theirs = first_release(home / "public")
    nanochat(capsys, "import", folder, "classic")
    ids = [encoding().encode("<|bos|>", allowed_special="all")[0], *encoding().encode_ordinary("The 4 small birds")]
    prompt = len(ids)
    while len(ids) < prompt + 12:
        with torch.no_grad():
            following = int(theirs(torch.tensor([ids])).logits[0, -1].argmax())
        if following >= len(tiny_tokenizer().vocabulary.tokens):
            break  # a special: what becomes of it is the engine's affair
        ids.append(following)
    assert len(ids) > prompt + 3
    continued = encoding().decode_bytes(ids[prompt:]).decode("utf-8", "replace")
    said = nanochat(capsys, "complete", "classic", "-p", "The 4 small birds", "--max-tokens", "12", "--device", "cpu")
    assert said.startswith("The 4 small birds" + printable(continued))


def test_a_malicious_tokenizer_beside_good_weights_ends_in_one_clear_error(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = current(home / "public")
    (home / "public/tokenizer/tokenizer.pkl").write_bytes(pickle.dumps(print))
    said = nanochat(capsys, "import", folder, "never", code=2)
    assert said.startswith("error[E307]") and "builtins.print" in said
    assert not (home / "never").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("export", "nothing", "--format", "hf"), "E405"),
        (("import", "nothing", "there"), "E409"),
        (("import", ".", "there"), "E409"),
        (("import", "classic", "there", "--step", "3"), "E407"),
        (("import", "classic", "there", "--tokenizer", "classic/tokenizer.json"), "E407"),
        (("import", "classic", "there", "--tokenizer", "nothing.json"), "E407"),
        (("import", "classic", "there", "--tool", "calculater"), "E201"),
        (("import", "classic", "classic"), "E407"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(
    arguments: tuple[str, ...], code: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(home / "classic", classic())
    said = nanochat(capsys, *arguments, code=2)
    assert said.startswith(f"error[{code}]")
    assert "Traceback" not in said


def test_a_tokenizer_file_that_cannot_be_used_is_told_the_commands_own_remedy(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = current(home / "public")
    write_tiktoken(tiny_tokenizer().vocabulary, home / "tokens.tiktoken")
    (home / "junk.pkl").write_bytes(b"junk")
    for file in ("tokens.tiktoken", "junk.pkl", "nothing.json", "nothing.pkl"):
        said = nanochat(capsys, "import", folder, "there", "--tokenizer", file, code=2)
        assert said.startswith(f"error[E307]: the tokenizer file {file} ")
        help_line = said.partition("= help: ")[2]
        assert "--tokenizer FILE" in help_line and "tiktoken" not in help_line


def test_a_tokenizer_of_ours_is_read_whatever_its_file_is_called(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = current(home / "public")
    (home / "public/tokenizer/tokenizer.pkl").unlink()
    tiny_tokenizer().save(home)
    (home / "tokenizer.json").rename(home / "mine.json")
    (home / "tokenizer.json").write_text("another one, which is not asked for")
    nanochat(capsys, "import", folder, "there", "--tokenizer", "mine.json")
    assert Tokenizer.load(home / "there").digest == tiny_tokenizer().digest


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", None, "is missing"),
        ("model.safetensors", b"", "is no safetensors file, or was cut off or damaged"),
        ("model.safetensors", b"garbage, and more of it", "is no safetensors file, or was cut off or damaged"),
        ("config.json", b"{", "is no JSON: it was cut off or damaged"),
    ],
)
def test_a_damaged_folder_of_transformers_is_told_in_our_words(
    name: str, content: bytes | None, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huggingface.write(weights_of(classic()), home / "theirs")
    (home / "theirs" / name).unlink()
    if content is not None:
        (home / "theirs" / name).write_bytes(content)
    assert nanochat(capsys, "import", "theirs", "there", code=2).splitlines()[0] == f"error[E409]: theirs/{name} {said}"


def test_a_damaged_export_is_to_be_copied_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made(home / "ours", classic()) / "model.safetensors").write_bytes(b"half")
    said = nanochat(capsys, "import", "ours", "there", code=1)
    assert said.startswith("error[E406]") and "= help: copy it again from where it came" in said


FINETUNE = """
format = 1
name = "on"

[hardware]
launcher = "local"
device = "cpu"
dtype = "float32"

[stages.sft]
use = "finetune"
init = "path:IMPORTED"
steps = 3
total_batch_size = 2048
device_batch_size = 2
[stages.sft.data.sums]
use = "arithmetic"
size = 50
[stages.sft.optim.all]
use = "adamw"
match = "*"
lr = 0.001
"""


def test_a_recipe_finetunes_what_came_in(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = current(home / "public")
    nanochat(capsys, "import", folder, "mine")
    (home / "on.toml").write_text(FINETUNE.replace("IMPORTED", str(home / "mine")))
    nanochat(capsys, "run", home / "on.toml")
    nanochat(capsys, "export", "on", "--format", "safetensors", "-o", "tuned")
    tuned = json.loads((home / "tuned/meta.json").read_text())
    assert tuned["step"] == 3
    assert tuned["model"] == json.loads((home / "mine/meta.json").read_text())["model"]
    before, after = (load_file(home / name / "model.safetensors") for name in ("mine", "tuned"))
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_recipe_plans_on_what_came_in(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, model = current(home / "public")
    nanochat(capsys, "import", folder, "mine")
    (home / "on.toml").write_text(FINETUNE.replace("IMPORTED", str(home / "mine")))
    (stage,) = load_recipe(home / "on.toml").stages.values()
    assert stage.config.init.path == home / "mine"
    thousands = round(sum(tensor.numel() for tensor in model.parameters()) / 1000)
    assert f"{thousands} k parameters" in nanochat(capsys, "estimate", home / "on.toml")
