"""Which tokens of a rewritten prompt correspond to which of its source: what prompt-to-prompt needs to move maps.

A map of the source has one column a token. For the tokens of the rewrite it becomes

    M_mapped = M_source A,        A[i, j] the share of source token i that token j of the rewrite is given

Replacement (as many words in both prompts): word k to word k. Where both have as many tokens, one to one; otherwise
each of the m new tokens gets 1/m of the sum over the old ones. Beginning, end and padding are matched by the same rule,
so each row of A sums to 1 and a pixel's attention to 1.
Refinement (words added): tokens that both prompts have, in order (Needleman and Wunsch with gap 0, match 1, mismatch
-1, which is their longest common subsequence), one to one. A token without counterpart is not ``known``.

A word is a run of letters and digits, whatever its tokens; punctuation is no part of it.
Combines with: ``prompt_to_prompt``.
Forwards per step: 0 of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.encoders.text import EncodedText

__all__ = ["Alignment", "Pair", "aligned", "check_pairs", "refined", "replaced", "replaced_as_published"]

Pair = tuple[int, int]
"""A source and a rewrite of it: numbers of two images of a batch."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """The tokens of P rewrites, each matched to those of its source.

    Args:
        pairs: which images these are.
        matrix: A of each pair, (P, L, L), in [0, 1], float32.
        known: which tokens of the rewrite have a counterpart, (P, L) bool; the others keep their own map.

    Raises:
        ValueError: pairs that are no pairs.
    """

    pairs: tuple[Pair, ...]
    matrix: Tensor
    known: Tensor

    def __post_init__(self) -> None:
        check_pairs(self.pairs)

    def only(self, chosen: Tensor) -> Alignment:
        """The same for some tokens of each rewrite, (P, L) bool; the others keep their own map."""
        return replace(self, known=self.known & chosen)

    @staticmethod
    def cat(parts: Sequence[Alignment]) -> Alignment:
        """The pairs of several alignments of one batch of texts; at least one."""
        return Alignment(
            tuple(pair for part in parts for pair in part.pairs),
            torch.cat([part.matrix for part in parts]),
            torch.cat([part.known for part in parts]),
        )


def check_pairs(pairs: Sequence[Pair]) -> None:
    """See that no image is rewritten twice, or is both a source and a rewrite.

    Raises:
        ValueError: one is.
    """
    sources, rewrites = {source for source, _ in pairs}, [rewrite for _, rewrite in pairs]
    if len(set(rewrites)) < len(rewrites) or sources & set(rewrites):
        raise ValueError(f"an image is rewritten once, and a source is not rewritten, but the pairs are {list(pairs)}")


def aligned(words: EncodedText, pairs: Sequence[Pair]) -> Alignment:
    """Replacement for pairs with as many words in both prompts, refinement for the others.

    Args:
        words: the B texts.
        pairs: P pairs of them.

    Returns:
        A (P, L, L) and the known tokens (P, L).
    """
    by_word = [len(old.words) == len(new.words) for old, new in (_both(words, pair) for pair in pairs)]
    return Alignment.cat(
        [(replaced if same else refined)(words, [pair]) for same, pair in zip(by_word, pairs, strict=True)]
    )


def replaced(words: EncodedText, pairs: Sequence[Pair]) -> Alignment:
    """Word k of the source to word k of the rewrite, whatever their tokens.

    Args:
        words: the B texts.
        pairs: P pairs of them.

    Returns:
        A (P, L, L), whose rows sum to 1; all tokens (P, L) are known.

    Raises:
        ValueError: another number of words.

    Paper: Prompt-to-Prompt Image Editing with Cross Attention Control (Hertz et al., 2022), arXiv:2208.01626,
        section 3.2.
    Differs from the paper: tokens after a word that changes its number of tokens are shifted with it, where the
        authors' code leaves them at their place (see :func:`replaced_as_published`); padding is matched as a word is.
    """
    return _together(words, pairs, [_replacement(words, pair) for pair in pairs])


def refined(words: EncodedText, pairs: Sequence[Pair]) -> Alignment:
    """Tokens that both prompts have, one to one; what the rewrite adds is left to itself.

    Args:
        words: the B texts.
        pairs: P pairs of them.

    Returns:
        A (P, L, L) of zeros and ones, and the known tokens (P, L).

    Paper: Prompt-to-Prompt Image Editing with Cross Attention Control (Hertz et al., 2022), arXiv:2208.01626,
        section 3.2.
    Differs from the paper: tokens are compared by their letters and their place in a word. Padding is matched to
        padding at the same place; where the rewrite is shorter, the authors' code matches some of it to words.
    """
    exact = _together(words, pairs, [_refinement(words, pair) for pair in pairs])
    return exact.only(exact.matrix.any(dim=1))


def replaced_as_published(words: EncodedText, pairs: Sequence[Pair]) -> Alignment:
    """Replacement as the authors' code has it, for comparisons only.

    After the last word that differs, token j is given column j of the source, shifted or not. With other numbers of
    tokens, words after it so get their neighbour's map, and columns are lost or counted twice.

    Args:
        words: the B texts.
        pairs: P pairs of them.

    Returns:
        A (P, L, L); all tokens (P, L) are known.

    Raises:
        ValueError: another number of words.
    """
    return _together(words, pairs, [_published(words, pair) for pair in pairs])


def _together(words: EncodedText, pairs: Sequence[Pair], matrices: Sequence[Tensor]) -> Alignment:
    tokens = words.condition.tokens
    matrix = torch.stack(list(matrices)).to("cpu" if tokens is None else tokens.device)
    return Alignment(tuple(pairs), matrix, torch.ones_like(matrix[:, 0], dtype=torch.bool))


def _replacement(words: EncodedText, pair: Pair) -> Tensor:
    old_groups, new_groups = _both(words, pair)
    if len(old_groups.words) != len(new_groups.words):
        texts = " and ".join(f"{words.texts[image]!r}" for image in pair)
        counts = " and ".join(str(len(groups.words)) for groups in (old_groups, new_groups))
        raise ValueError(f"{texts} have {counts} words; replacement needs as many in both, so use refinement")
    matrix = _blank(words)
    given: list[int] = []
    for old, new in zip(old_groups.all, new_groups.all, strict=True):
        given = new or given  # where no padding is left, the mark of the end is given the source's
        if len(old) == len(new):
            matrix[old, new] = 1
        else:
            for token in old:
                matrix[token, given] += 1 / len(given)
    return matrix


def _refinement(words: EncodedText, pair: Pair) -> Tensor:
    old, new = _both(words, pair)
    old_tokens, tokens = ([token for word in groups.words for token in word] for groups in (old, new))
    old_letters, letters = (
        _letters(words, image, groups.words) for image, groups in zip(pair, (old, new), strict=True)
    )
    matrix = _blank(words)
    matrix[old.begin + old.end, new.begin + new.end] = 1
    for token in {*old.padding} & {*new.padding}:
        matrix[token, token] = 1
    for i, j in _in_common(old_letters, letters):
        matrix[old_tokens[i], tokens[j]] = 1
    return matrix


def _published(words: EncodedText, pair: Pair) -> Tensor:
    matrix = _replacement(words, pair)
    old_groups, new_groups = _both(words, pair)
    for old, new in reversed(list(zip(old_groups.words, new_groups.words, strict=True))):
        if _written(words, pair[0], old) != _written(words, pair[1], new):
            matrix[:, new[-1] + 1 :] = 0
            for token in range(new[-1] + 1, len(matrix) - max(0, old[-1] - new[-1])):
                matrix[token, token] = 1
            break
    return matrix


def _blank(words: EncodedText) -> Tensor:
    length = len(words.spans[0])
    return torch.zeros(length, length)


@dataclass(frozen=True)
class _Groups:
    """The tokens of a text: of the beginning, of each word, of the mark of the end, and of the padding."""

    begin: list[int]
    words: list[list[int]]
    end: list[int]
    padding: list[int]

    @property
    def all(self) -> list[list[int]]:
        """All groups, in the text's order."""
        return [self.begin, *self.words, self.end, self.padding]


def _both(words: EncodedText, pair: Pair) -> tuple[_Groups, _Groups]:
    return _groups(words, pair[0]), _groups(words, pair[1])


def _groups(words: EncodedText, image: int) -> _Groups:
    text, spans = words.texts[image], words.spans[image]
    written = [token for token, (start, end) in enumerate(spans) if start < end]
    first, after = (written[0], written[-1] + 1) if written else (1, 1)
    found: list[list[int]] = []
    for token in range(first, after):
        start, former = spans[token][0], spans[token - 1][1]
        goes_on = start < former or (start == former and text[start - 1 : start + 1].isalnum())
        if token > first and goes_on:
            found[-1].append(token)
        else:
            found.append([token])
    tokens = list(range(len(spans)))
    return _Groups(tokens[:first], found, tokens[after : after + 1], tokens[after + 1 :])


def _written(words: EncodedText, image: int, tokens: list[int]) -> str:
    spans = words.spans[image]
    return words.texts[image][spans[tokens[0]][0] : spans[tokens[-1]][1]]


def _letters(words: EncodedText, image: int, groups: list[list[int]]) -> list[tuple[str, bool, bool]]:
    """What a token stands for: its letters, and whether a word begins and ends with it."""
    return [
        (_written(words, image, [token]).lower(), token == word[0], token == word[-1])
        for word in groups
        for token in word
    ]


def _in_common(old: Sequence[object], new: Sequence[object]) -> list[Pair]:
    """Places of a longest common subsequence; where several are as long, the one that the authors' code finds."""
    best = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, before in enumerate(old, start=1):
        for j, after in enumerate(new, start=1):
            kept = best[i - 1][j - 1] + 1 if before == after else 0
            best[i][j] = max(best[i][j - 1], best[i - 1][j], kept)
    found: list[Pair] = []
    i, j = len(old), len(new)
    while i and j:
        if best[i][j] == best[i][j - 1]:
            j -= 1
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    return found
