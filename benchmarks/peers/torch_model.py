"""HierTCN in PyTorch on the padded grid: the equations of `hiertcn_jax.models.hiertcn`.

Written in the fastest way found for eager PyTorch on a CPU: one product computes the GRU's inputs
for all sessions, convolutions run over many sessions side by side, and after them only real events
are kept, so that no loss is computed for padding.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.peers.settings import Settings


class Carry(NamedTuple):
    """State that a lane's next session reads: the GRU's, and the last session's mean."""

    state_bh: Tensor
    pooled_bd: Tensor


class HierTCN(nn.Module):
    """A GRU over sessions, and a TCN within each.

    Args:
      settings: Sizes.
      rows: Rows of the item table.
      tight: True: pads each session slot to its longest session, as the released code does. False:
        to the length of the grid. The predictions are the same.
    """

    def __init__(self, settings: Settings, rows: int, tight: bool) -> None:
        super().__init__()
        self.settings, self.tight = settings, tight
        d, h, channels = settings.item_dim, settings.gru_dim, settings.tcn_channels
        if len(set(channels)) != 1:
            raise ValueError(f"tcn_channels={channels}: must all be equal")
        self.items = nn.Embedding(rows, d)
        nn.init.normal_(self.items.weight, std=d**-0.5)
        self.item_bias = nn.Parameter(torch.zeros(rows))
        self.start_token = nn.Parameter(torch.zeros(d))
        self.start_state = nn.Parameter(torch.zeros(h))
        self.log_tau_hours = nn.Parameter(torch.tensor(settings.gap_decay_hours).log())
        self.gru_input = nn.Linear(d, 3 * h)
        self.gru_recurrent = nn.Linear(h, 3 * h, bias=False)
        self.candidate_bias = nn.Parameter(torch.zeros(h))
        self.join_item = nn.Linear(d, channels[0])
        self.join_state = nn.Linear(h, channels[0], bias=False)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, settings.kernel_size, dilation=2**block)
            for block, width in enumerate(channels)
        )
        self.output = nn.Linear(channels[-1], d)

    def init_carry(self, lanes: int) -> Carry:
        """The carry before the first batch."""
        settings = self.settings
        return Carry(torch.zeros(lanes, settings.gru_dim), torch.zeros(lanes, settings.item_dim))

    def forward(
        self, item_ids_bst: Tensor, starts_user_bs: Tensor, gap_hours_bs: Tensor, carry: Carry
    ) -> tuple[Tensor, Tensor, Carry]:
        """Predictions for the events of a grid.

        Args:
          item_ids_bst: Rows of the item table, 0 for padding.
          starts_user_bs: Where a user starts.
          gap_hours_bs: Hours since the previous session.
          carry: From the previous batch.

        Returns:
          u [n, d] of the n real events in order, their items' embeddings [n, d], the next carry.
        """
        real_bst = item_ids_bst > 0
        items_bstd = self.items(item_ids_bst)
        sums_bsd = torch.einsum("bstd,bst->bsd", items_bstd, real_bst.to(items_bstd.dtype))
        pooled_bsd = sums_bsd / real_bst.sum(-1, keepdim=True).clamp(min=1)
        states_bsh = self._long_term(pooled_bsd, starts_user_bs, gap_hours_bs, carry)

        b, s, _, d = items_bstd.shape
        start_bs1d = self.start_token.expand(b, s, 1, d)
        previous_bstd = torch.cat([start_bs1d, items_bstd[:, :, :-1]], 2)
        inputs_bstc = self.join_item(previous_bstd) + self.join_state(states_bsh)[:, :, None]
        if self.tight:
            hidden_bstc = self._slot_by_slot(inputs_bstc, real_bst)
        else:
            hidden_bstc = self._all_slots(inputs_bstc)
        carry = Carry(states_bsh[:, -1].detach(), pooled_bsd[:, -1].detach())
        return self.output(hidden_bstc[real_bst]), items_bstd[real_bst], carry

    def _all_slots(self, inputs_bstc: Tensor) -> Tensor:
        """Applies the TCN to all sessions at once, each as long as the grid."""
        hidden_nct = inputs_bstc.flatten(0, 1).transpose(1, 2)
        for convolution in self.convolutions:
            reach = (convolution.kernel_size[0] - 1) * convolution.dilation[0]
            convolved_nct = convolution(F.pad(hidden_nct, (reach, 0)))
            hidden_nct = F.relu(F.relu(convolved_nct) + hidden_nct)
        return hidden_nct.transpose(1, 2).view_as(inputs_bstc)

    def _slot_by_slot(self, inputs_bstc: Tensor, real_bst: Tensor) -> Tensor:
        """Applies the TCN to one session slot at a time, as long as the slot's longest session.

        On short sequences one product of all taps is faster than a convolution.
        """
        session_width = inputs_bstc.shape[2]
        slots = []
        for slot, longest in enumerate(real_bst.any(0).sum(-1).tolist()):
            hidden_btc = inputs_bstc[:, slot, :longest]
            for convolution in self.convolutions:
                dilation, kernel_size = convolution.dilation[0], convolution.kernel_size[0]
                padded_btc = F.pad(hidden_btc, (0, 0, (kernel_size - 1) * dilation, 0))
                taps = [padded_btc[:, k * dilation :][:, :longest] for k in range(kernel_size)]
                weight_fc = convolution.weight.transpose(1, 2).flatten(1)
                convolved_btc = F.linear(torch.cat(taps, -1), weight_fc, convolution.bias)
                hidden_btc = F.relu(F.relu(convolved_btc) + hidden_btc)
            slots.append(F.pad(hidden_btc, (0, 0, 0, session_width - longest)))
        return torch.stack(slots, 1)

    def _long_term(
        self, pooled_bsd: Tensor, starts_user_bs: Tensor, gap_hours_bs: Tensor, carry: Carry
    ) -> Tensor:
        """The state that each session's predictions read; [b, s, h]."""
        before_bsd = torch.cat([carry.pooled_bd[:, None], pooled_bsd[:, :-1]], 1)
        gates_bsh = self.gru_input(before_bsd)
        decay_bs = torch.exp(-gap_hours_bs * torch.exp(-self.log_tau_hours))
        state_bh, states = carry.state_bh, []
        for session in range(pooled_bsd.shape[1]):
            x_r, x_z, x_n = gates_bsh[:, session].chunk(3, 1)
            w_r, w_z, w_n = self.gru_recurrent(state_bh).chunk(3, 1)
            r_bh = torch.sigmoid(x_r + w_r)
            z_bh = torch.sigmoid(x_z + w_z)
            n_bh = torch.tanh(x_n + r_bh * (w_n + self.candidate_bias))
            new_bh = torch.lerp(n_bh, state_bh, z_bh)
            new_bh = torch.where(starts_user_bs[:, session, None], self.start_state, new_bh)
            state_bh = new_bh * decay_bs[:, session, None]
            states.append(state_bh)
        return torch.stack(states, 1)

    def sampled_softmax(
        self,
        u_nd: Tensor,
        target_nd: Tensor,
        target_n: Tensor,
        candidate_k: Tensor,
        log_expected_k: Tensor,
    ) -> Tensor:
        """Mean over events of softmax against shared candidates, with the logQ correction.

        Args:
          u_nd: Predictions.
          target_nd: Embedding of the target.
          target_n: Its row.
          candidate_k: Rows of the candidates.
          log_expected_k: Log of each candidate's expected count in the candidate set.
        """
        target_score_n = (u_nd * target_nd).sum(-1) + self.item_bias[target_n]
        offset_k = self.item_bias[candidate_k] - log_expected_k
        score_nk = torch.addmm(offset_k, u_nd, self.items(candidate_k).t())
        score_nk = score_nk.masked_fill(candidate_k == target_n[:, None], -torch.inf)
        score_nk = torch.cat([target_score_n[:, None], score_nk], 1)
        return F.cross_entropy(score_nk, torch.zeros_like(target_n))
