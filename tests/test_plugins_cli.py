"""`nanochat plugins show`: what is asked of it that is no plugin."""

import pytest

from nanochat.cli.main import main


@pytest.mark.parametrize(
    "name, said",
    [
        ("muon", "`muon` is an optimizer of `nanochat-plugins`: `nanochat explain muon` says more of it"),
        ("bpb", "`bpb` is an eval of `nanochat-plugins`: `nanochat explain bpb` says more of it"),
        ("nanochat-plugin", "did you mean `nanochat-plugins`"),
        ("zzzz", "`nanochat plugins` lists them"),
    ],
)
def test_what_is_no_plugin_is_told_what_to_ask_instead(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plugins", "show", name])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert f"error[E201]: no plugin `{name}` is installed" in shown
    assert f"= help: {said}" in shown
