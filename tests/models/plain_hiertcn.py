"""HierTCN for one user, event by event in float64 NumPy loops: only the equations."""

import numpy as np


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params.get("bias", 0.0))


def _gru(params, x, h):
    x_r, x_z, x_n = np.split(_dense(params["input"], x), 3)
    w_r, w_z, w_n = np.split(h @ np.asarray(params["recurrent"], np.float64), 3)
    r, z = _sigmoid(x_r + w_r), _sigmoid(x_z + w_z)
    n = np.tanh(x_n + r * (w_n + np.asarray(params["candidate_bias"])))
    return (1 - z) * n + z * h


def _pool(pooling, vectors, width):
    if not vectors:
        return np.zeros(width)
    if pooling == "last":
        return vectors[-1]
    return np.mean(vectors, axis=0) if pooling == "mean" else np.max(vectors, axis=0)


def _tcn(params, config, inputs):
    """Output at the last of `inputs`, a list of vectors of one session."""
    layer = list(inputs)
    for block in range(len(config.tcn_channels)):
        block_params, dilation = params[f"block_{block}"], config.dilation_base**block
        hidden = layer
        for conv in range(config.convs_per_block):
            dense = block_params[f"conv_{conv}"]["Dense_0"]
            zero = np.zeros_like(hidden[0])
            outputs = []
            for t in range(len(hidden)):
                offsets = [k * dilation for k in range(config.kernel_size - 1, -1, -1)]
                taps = [hidden[t - o] if t - o >= 0 else zero for o in offsets]
                out = _dense(dense, np.concatenate(taps))
                if config.gated:
                    out, gate = np.split(out, 2)
                    outputs.append(np.maximum(out, 0) / (1 + np.exp(-gate)))
                else:
                    outputs.append(np.maximum(out, 0))
            hidden = outputs
        if config.residual:
            skip = [_dense(block_params["skip"], x) if "skip" in block_params else x for x in layer]
            hidden = [h + s for h, s in zip(hidden, skip, strict=True)]
            if not config.gated:
                hidden = [np.maximum(h, 0) for h in hidden]
        layer = hidden
    return np.concatenate([layer[-1], inputs[-1]]) if config.gated else layer[-1]


def _progress(params, position, gap_hours):
    if "join_progress" not in params:
        return 0.0
    gap = np.log1p(gap_hours) / 4 if position == 0 else 0.0
    known = np.array([position == 0, position == 1, min(position, 8) / 8, gap], np.float64)
    return _dense(params["join_progress"], np.maximum(_dense(params["progress_units"], known), 0))


def predictions(params, config, table_vd, sessions, gap_hours, long_term=True):
    """u at every event of one user.

    Args:
      params: Linen parameters of HierTCN.
      config: ModelConfig.
      table_vd: Item table.
      sessions: Item ids of each session.
      gap_hours: Hours before each session; 0 for the first.

    Returns:
      float64 [events, d].
    """
    table_vd = np.asarray(table_vd, np.float64)

    def embed(item):
        x = table_vd[item]
        return _dense(params["projection"], x) if config.projection_dim else x

    width = config.projection_dim or config.item_dim
    states, out = None, []
    for m, session in enumerate(sessions):
        if long_term:
            layers = [params["gru"][f"layer_{g}"] for g in range(config.gru_layers)]
            if m == 0:
                states = [np.asarray(layer["start_state"], np.float64) for layer in layers]
            else:
                known = [embed(i) for i in sessions[m - 1] if i >= 2]
                x, decay = _pool(config.pooling, known, width), 1.0
                if config.gap_decay == "fixed":
                    decay = np.exp(-gap_hours[m] / config.gap_decay_hours)
                elif config.gap_decay == "learned":
                    tau = np.exp(np.float64(params["gru"]["log_tau_hours"]))
                    decay = np.exp(-gap_hours[m] / tau)
                for g, layer in enumerate(layers):
                    x = _gru(layer, x, states[g])
                    states[g] = x * decay
            context = _dense(params["join_state"], np.concatenate(states))
        else:
            context = 0.0
        inputs = []
        for t in range(len(session)):
            previous = np.asarray(params["start_token"]) if t == 0 else embed(session[t - 1])
            inputs.append(_dense(params["join_item"], previous) + context)
            inputs[-1] = inputs[-1] + _progress(params, t, gap_hours[m])
            u = _dense(params["output"], _tcn(params["tcn"], config, inputs))
            if config.normalize != "none":
                u = u / np.linalg.norm(u)
            out.append(u / config.temperature)
    return np.array(out)
