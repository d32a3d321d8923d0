"""The baselines for one user, event by event in float64 NumPy loops: the papers' equations."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params.get("bias", 0.0))


def layer_norm(params, x):
    normal = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    return normal * np.asarray(params["scale"], np.float64) + np.asarray(params["bias"])


def gru(params, gates, h):
    x_r, x_z, x_n = np.split(gates, 3)
    w_r, w_z, w_n = np.split(h @ np.asarray(params["recurrent"], np.float64), 3)
    r, z = sigmoid(x_r + w_r), sigmoid(x_z + w_z)
    n = np.tanh(x_n + r * (w_n + np.asarray(params["candidate_bias"])))
    return (1 - z) * n + z * h


def embed(params, config, table_vd, item):
    x = np.asarray(table_vd, np.float64)[item]
    return dense(params["projection"], x) if config.projection_dim else x


def prediction(params, config, hidden):
    u = dense(params["output"], hidden)
    if config.normalize != "none":
        u = u / np.linalg.norm(u)
    return u / config.temperature


def flat_gru(params, config, table_vd, sequence):
    """Predictions at the events of one sequence of items."""
    layers = [params[f"layer_{i}"] for i in range(config.gru_layers)]
    states = [np.asarray(layer["start_state"], np.float64) for layer in layers]
    out = []
    for item in sequence:
        out.append(prediction(params, config, states[-1]))
        x = embed(params, config, table_vd, item)
        for i, layer in enumerate(layers):
            x = states[i] = gru(layer, dense(layer["input"], x), states[i])
    return out


def _stack(params, config, gates, states):
    for i in range(config.gru_layers):
        if i:
            gates = dense(params[f"input_{i}"], states[i - 1])
        states[i] = gru(params[f"layer_{i}"], gates, states[i])


def hiergru(params, config, table_vd, user):
    step = params["step"]
    user_state = np.split(np.asarray(params["start_state"], np.float64), config.gru_layers)
    out = []
    tau = config.gap_decay_hours
    if config.gap_decay == "learned":
        tau = np.exp(np.float64(params["log_tau_hours"]))
    for gap_hours, session in user:
        if config.gap_decay != "none":
            user_state[:] = [part * np.exp(-gap_hours / tau) for part in user_state]
        state = np.split(np.tanh(dense(step["session_start"], user_state[-1])), config.gru_layers)
        for item in session:
            out.append(prediction(params, config, state[-1]))
            gates = dense(params["session_input"], embed(params, config, table_vd, item))
            if config.hiergru_feed == "all":
                gates = gates + dense(step["feed"], user_state[-1])
            _stack(step["session"], config, gates, state)
        _stack(step["user"], config, dense(step["user_input"], state[-1]), user_state)
    return out


def _attention(params, config, inputs):
    heads, window = config.attention_heads, config.attention_window
    queries = [np.split(dense(params["query"], x), heads) for x in inputs]
    both = [np.split(dense(params["key_value"], x), 2) for x in inputs]
    keys = [np.split(key, heads) for key, _ in both]
    values = [np.split(value, heads) for _, value in both]
    age = np.asarray(params["age"], np.float64)
    out = []
    for t in range(len(inputs)):
        places = range(max(0, t - window + 1), t + 1)
        parts = []
        for a in range(heads):
            query = queries[t][a]
            logits = np.array([query @ (keys[i][a] + age[t - i, a]) for i in places])
            weights = np.exp(logits / np.sqrt(len(query)))
            weights /= weights.sum()
            parts.append(sum(w * values[i][a] for w, i in zip(weights, places, strict=True)))
        out.append(np.concatenate(parts))
    return out


def _inputs(params, config, table_vd, sequence):
    before = [embed(params, config, table_vd, item) for item in sequence[:-1]]
    return [dense(params["join_item"], x) for x in [np.asarray(params["start_token"]), *before]]


def sasrec(params, config, table_vd, sequence):
    layer = _inputs(params, config, table_vd, sequence)
    for number in range(config.attention_blocks):
        block = params[f"block_{number}"]
        attended = _attention(
            block["attention"], config, [layer_norm(block["attention_norm"], x) for x in layer]
        )
        layer = [x + y for x, y in zip(layer, attended, strict=True)]
        for t, x in enumerate(layer):
            inner = np.maximum(dense(block["inner"], layer_norm(block["feed_forward_norm"], x)), 0)
            layer[t] = x + dense(block["outer"], inner)
    return [prediction(params, config, layer_norm(params["norm"], x)) for x in layer]


def esasrec(params, config, table_vd, sequence):
    layer = _inputs(params, config, table_vd, sequence)
    for number in range(config.attention_blocks):
        block = params[f"block_{number}"]
        attended = _attention(
            block["attention"], config, [layer_norm(block["attention_norm"], x) for x in layer]
        )
        for t, x in enumerate(layer):
            x = x + sigmoid(dense(block["attention_gate"], x)) * dense(
                block["attention_output"], attended[t]
            )
            normal = layer_norm(block["feed_forward_norm"], x)
            inner = dense(block["inner"], normal)
            inner = inner * sigmoid(inner) * dense(block["inner_factor"], normal)
            gate = sigmoid(dense(block["feed_forward_gate"], x))
            layer[t] = x + gate * dense(block["outer"], inner)
    return [prediction(params, config, x) for x in layer]


def _plain_norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6)


def hstu(params, config, table_vd, sequence, seconds):
    layer = _inputs(params, config, table_vd, sequence)
    input_seconds = [0, *seconds[:-1]]
    heads, window = config.attention_heads, config.attention_window
    for number in range(config.attention_blocks):
        block = params[f"block_{number}"]
        parts = [dense(block["join"], _plain_norm(x)) for x in layer]
        split = [np.split(part * sigmoid(part), 4) for part in parts]
        age_bias, span_bias = (np.asarray(block[name], float) for name in ("age_bias", "span_bias"))
        for t in range(len(layer)):
            gate, _, _, query = split[t]
            out = np.zeros((heads, len(query) // heads))
            for i in range(max(0, t - window + 1), t + 1):
                span = int(np.log(max(abs(seconds[t] - input_seconds[i]), 1)) / 0.301)
                bias = age_bias[t - i] + span_bias[min(span, 128)]
                _, key, value, _ = split[i]
                for a in range(heads):
                    own = (np.split(part, heads)[a] for part in (query, key, value))
                    q, k, v = own
                    score = q @ k + bias
                    out[a] += score * sigmoid(score) / window * v
            layer[t] = layer[t] + dense(block["output"], gate * _plain_norm(out.ravel()))
    return [prediction(params, config, x) for x in layer]
