"""The captioner: GPT-2 reads what the fusion makes of words and pictures, and the pictures, and says what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from mmgen.models.fusion import Fused
from mmgen.models.layers import Attention, FeedForward

BEGIN, END = 0, 1
"""Places in the vocabulary of what stands before and after every caption; both are empty strings there."""


@dataclass
class Caption:
    """A text, and how probable the captioner holds it.

    Attributes:
        text: such as "red apple, noto style".
        probability: 0 to 1, the product of the probabilities of its pieces and of its end, each given those before. Of
            all captions that there could be they sum to 1, so the few best of a picture sum to less.
    """

    text: str
    probability: float


class CaptionDecoder(ModelMixin, ConfigMixin):
    """Fused tokens as prefix of a GPT-2 (Radford et al. 2019; prefixes as in ClipCap, Mokady et al. 2021).

    The prefix is a few tokens that start as the fused vector and a glance at the references, one linear map of all
    their tokens in their places, and then read the fused tokens and, beside them, the references' own, as a Perceiver
    resampler does (Flamingo, Alayrac et al. 2022): the fusion learned to keep what drawing needs, which is less than
    naming does. A token of weight w counts w times, as in `Fusion`, and one of weight 0 not at all; the glance is the
    references' mean by weight, and fades where these sum to less than 1.

    The glance is for things that it saw in a few pictures only: learned from three pictures a label, attention alone
    named fewer unseen things than their nearest neighbours do.

    Args:
        vocabulary: the pieces that captions are made of, as they stand there, with the space before them; the first two
            are empty and mean begin and end.
        fused_channels: width of the fusion.
        reference_channels: width of the image encoder's tokens.
        reference_grid: tokens of one reference.
        width, depth, heads: of GPT-2.
        prefix: tokens of the prefix.
        readers: layers that make it.
        max_pieces: of the longest caption.
        dropout: in training.
        has_glance: whether the prefix starts from one; captioners that were trained before there was any have none.
    """

    @register_to_config
    def __init__(
        self,
        vocabulary: list[str],
        fused_channels: int = 256,
        reference_channels: int = 768,
        reference_grid: int = 16,
        width: int = 256,
        depth: int = 4,
        heads: int = 4,
        prefix: int = 8,
        readers: int = 2,
        max_pieces: int = 40,
        dropout: float = 0.2,
        has_glance: bool = False,
    ):
        super().__init__()
        self.pooled_in = nn.Linear(fused_channels, width)
        self.fused_in = nn.Sequential(nn.LayerNorm(fused_channels), nn.Linear(fused_channels, width))
        self.register_buffer("reference_mean", torch.zeros(reference_channels))
        self.register_buffer("reference_spread", torch.ones(reference_channels))
        self.reference_in = nn.Linear(reference_channels, width)
        self.reference_place = nn.Parameter(torch.randn(reference_grid, width) * 0.02)
        self.glance = None
        if has_glance:
            flat = reference_grid * reference_channels
            self.glance = nn.Sequential(nn.Dropout(1.5 * dropout), nn.Linear(flat, width), nn.LayerNorm(width))
        self.queries = nn.Parameter(torch.randn(prefix, width) * 0.02)
        self.blocks = nn.ModuleList(Resampler(width, heads, dropout) for _ in range(readers))
        self.norm = nn.LayerNorm(width)
        config = GPT2Config(
            vocab_size=len(vocabulary),
            n_positions=prefix + 1 + max_pieces,
            n_embd=width,
            n_layer=depth,
            n_head=heads,
            activation_function="gelu_pytorch_tanh",  # GPT-2's, in one kernel.
            embd_pdrop=dropout,
            resid_pdrop=dropout,
            attn_pdrop=0.0,
            bos_token_id=BEGIN,
            eos_token_id=END,
            pad_token_id=END,
            tie_word_embeddings=False,
            attn_implementation="eager",  # On a CPU the fused kernel is slower backward at these lengths.
        )
        self.gpt2 = GPT2LMHeadModel(config)

    def set_normalisation(self, references: torch.Tensor) -> None:
        """Take the mean and the spread of each channel from reference tokens [..., reference_channels].

        A few channels of a CNN are hundreds of times as strong as others that say as much.
        """
        flat = references.float().flatten(0, -2)
        self.reference_mean.copy_(flat.mean(0))
        self.reference_spread.copy_(flat.std(0).clamp_min(1e-3))

    def read(self, fused: Fused, references: torch.Tensor, reference_weights: torch.Tensor) -> torch.Tensor:
        """What was fused -> the prefix [N, prefix, width].

        Args:
            references: the tokens that went into the fusion, [N, R, grid, reference_channels]; R may be 0.
            reference_weights: [N, R], 0 to 2.
        """
        n, grid = len(fused.pooled), references.shape[2]
        even = ((references - self.reference_mean) / self.reference_spread).clamp(-10, 10)
        seen = (self.reference_in(even) + self.reference_place).flatten(1, 2)
        memory = torch.cat([self.fused_in(fused.tokens.to(seen.dtype)), seen], dim=1)
        weights = reference_weights.float()[:, :, None].expand(-1, -1, grid).flatten(1)
        log_weights = torch.cat([fused.log_weights, weights.log(), weights.new_zeros(n, len(self.queries))], dim=1)
        start = self.pooled_in(fused.pooled)
        if self.glance is not None:
            flat = even.flatten(2)
            shares = reference_weights.float() / reference_weights.float().sum(1, keepdim=True).clamp_min(1)
            start = start + (shares[:, :, None] * self.glance(F.rms_norm(flat, flat.shape[-1:]))).sum(1)
        x = self.queries + start[:, None]
        for block in self.blocks:
            x = block(x, memory, log_weights)
        return self.norm(x)

    def forward(
        self, fused: Fused, references: torch.Tensor, reference_weights: torch.Tensor, pieces: torch.Tensor
    ) -> torch.Tensor:
        """Logits [N, L + 1, vocabulary] of each piece of captions [N, L] given those before, and of what follows."""
        prefix = self.read(fused, references, reference_weights)
        begin = pieces.new_full((len(pieces), 1), BEGIN)
        words = self.gpt2.transformer.wte(torch.cat([begin, pieces], dim=1))
        embeddings = torch.cat([prefix.to(words.dtype), words], dim=1)
        return self.gpt2(inputs_embeds=embeddings, use_cache=False).logits[:, prefix.shape[1] :]

    def loss(self, logits: torch.Tensor, pieces: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of captions [N, L] of so many pieces each, their ends included.

        In training a twentieth of it asks for every piece alike (Szegedy et al. 2016), so that pictures known by heart
        do not make it sure of others.
        """
        targets = F.pad(pieces, (0, 1), value=END)
        places = torch.arange(targets.shape[1], device=targets.device)
        targets = targets.masked_fill(places > lengths[:, None], -100).masked_fill(places == lengths[:, None], END)
        return F.cross_entropy(
            logits.float().flatten(0, 1),
            targets.flatten(),
            ignore_index=-100,
            label_smoothing=0.05 if self.training else 0.0,
        )

    @torch.no_grad()
    def describe(
        self,
        fused: Fused,
        references: torch.Tensor,
        reference_weights: torch.Tensor,
        num_captions: int = 3,
        num_beams: int = 5,
    ) -> list[list[Caption]]:
        """The most probable captions that a beam search finds, the best first.

        Args:
            fused, references, reference_weights: as `read` takes them, of batch size N.
            num_captions: of each.
            num_beams: width of the search, raised to `num_captions` where it is less.

        Returns:
            N lists of `num_captions` captions, or fewer where the search ends in the same text twice.
        """
        prefix = self.read(fused, references, reference_weights)
        begin = self.gpt2.transformer.wte.weight[BEGIN].expand(len(prefix), 1, -1)
        embeddings = torch.cat([prefix.to(begin.dtype), begin], dim=1)
        found = self.gpt2.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device),
            max_new_tokens=self.config.max_pieces,
            num_beams=max(num_beams, num_captions, 2),
            num_return_sequences=num_captions,
            do_sample=False,
            length_penalty=0.0,  # So that a score is the logarithm of the caption's probability.
            early_stopping="never",
            suppress_tokens=[BEGIN],
            bos_token_id=BEGIN,
            eos_token_id=END,
            pad_token_id=END,
            return_dict_in_generate=True,
            output_scores=True,
        )
        captions: list[list[Caption]] = []
        chances = found.sequences_scores.float().exp().tolist()
        for row, pieces in enumerate(found.sequences.tolist()):
            if row % num_captions == 0:
                captions.append([])
            text = self.text(pieces)
            if text and text not in (caption.text for caption in captions[-1]):
                captions[-1].append(Caption(text, min(1.0, chances[row])))
        return captions

    def text(self, pieces: Sequence[int]) -> str:
        """Places in the vocabulary -> the text, up to its end."""
        pieces = list(pieces)
        if END in pieces:
            pieces = pieces[: pieces.index(END)]
        return " ".join("".join(self.config.vocabulary[piece] for piece in pieces).split())


class Resampler(nn.Module):
    """Pre-norm attention to what is read and to each other, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, log_weights: torch.Tensor) -> torch.Tensor:
        """x [N, P, D], memory [N, M, D], log_weights [N, M + P] -> [N, P, D]."""
        normed = self.norm1(x)
        context = torch.cat([self.norm3(memory).to(normed.dtype), normed], dim=1)
        x = x + self.dropout(self.attention(normed, context, log_weights)[0])
        return x + self.dropout(self.feed_forward(self.norm2(x)))
