"""The evaluation `newcomer` keeps nanochat's contract, and counts right."""

import torch
from nanochat.testing import check_eval, tiny_subject

from nanochat_newcomer.config import NewcomerConfig
from nanochat_newcomer.eval import evaluate, validation_texts


def test_it_keeps_the_contract() -> None:
    check_eval(evaluate, NewcomerConfig(tokens=500))


def test_the_share_is_that_of_guesses_counted_one_by_one() -> None:
    subject = tiny_subject()
    ids = [i for text in validation_texts(subject) for i in (subject.tokenizer.bos_id, *subject.tokenizer.encode(text))]
    right = 0
    for start in (0, 64):  # two rows of 64 tokens
        row = ids[start : start + 65]
        guesses = subject.model(torch.tensor([row[:-1]]))[0].argmax(dim=-1).tolist()
        right += sum(guess == target for guess, target in zip(guesses, row[1:], strict=True))
    assert evaluate(NewcomerConfig(tokens=128), subject)["accuracy"].value == right / 128
    assert evaluate(NewcomerConfig(tokens=128, rows=1), subject)["accuracy"].n == 128
