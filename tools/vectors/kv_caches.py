"""KV-cache bodies and paged caches. The package handles both as PyTorch tensors, so this part needs torch."""

from random import Random

from avp.kv_cache import KVCacheHeader, deserialize_kv_cache, estimate_kv_cache_size, serialize_kv_cache

# (num_layers, num_kv_heads, head_dim, seq_len, dtype)
BODIES = [(1, 4, 2, 7, "float32"), (2, 2, 4, 16, "float32"), (1, 2, 8, 1, "float32"), (1, 2, 2, 16, "float16"),
          (3, 1, 8, 1, "float16"), (1, 2, 4, 3, "float16"), (3, 1, 4, 1, "bfloat16"), (2, 4, 8, 16, "bfloat16")]
# (block_size, seq_len, num_blocks, block_table): a part of a block, a block and a bit, whole blocks, out of order
PAGED = [(16, 5, 4, [2]), (4, 9, 6, [1, 4, 3]), (16, 16, 4, [1]), (2, 6, 5, [4, 0, 2])]


def check_body(given, expect):
    """Reads the body into tensors, compares them with each layer's bytes, and writes it from those bytes alone."""
    import torch  # noqa: F401  (named in the reason for skipping; the package's own error names nothing)

    body = bytes.fromhex(given["hex"])
    cache, header = deserialize_kv_cache(body)
    faults = compare(header_fields(header), {key: expect[key] for key in header_fields(header)})
    faults += compare({"layers": layers_hex(cache)}, {"layers": expect["layers"]})
    size = estimate_kv_cache_size(**header_fields(header))
    # `estimate` is the package's word for it, `tensor_bytes` the project's.
    faults += compare({key: size for key in ("estimate", "tensor_bytes") if key in expect},
                      {key: expect[key] for key in ("estimate", "tensor_bytes") if key in expect})
    shape = (header.num_kv_heads, header.seq_len, header.head_dim)
    again = [tuple(tensor(layer[part], expect["dtype"], shape)[None] for part in ("key", "value")) for layer in expect["layers"]]
    if serialize_kv_cache(again)[0] != body:
        faults.append("the package writes other bytes from these layers")
    return faults


def check_paged(given, expect):
    """Gathers the blocks, then scatters the result into empty ones and gathers again."""
    from avp.connectors.page_convert import contiguous_to_paged, paged_to_contiguous
    import torch

    shape = (given["num_blocks"], 2, given["num_kv_heads"], given["block_size"], given["head_dim"])
    blocks = [tensor(layer, given.get("dtype", "float32"), shape) for layer in given["paged"]]
    table = torch.tensor(given["block_table"])
    gathered = paged_to_contiguous(blocks, table, given["num_layers"], given["block_size"], given["seq_len"])
    faults = compare({"layers": layers_hex(gathered)}, {"layers": expect["layers"]})
    empty = [torch.zeros_like(layer) for layer in blocks]
    contiguous_to_paged(gathered, empty, table, given["block_size"])
    back = paged_to_contiguous(empty, table, given["num_layers"], given["block_size"], given["seq_len"])
    return faults + compare({"layers": layers_hex(back)}, {"layers": expect["layers"]})


CHECKS = {"kv.decode": check_body, "kv.gather": check_paged}


def generate(version, seed):
    try:
        import torch
    except ImportError:
        print("kv-cache.json: not made, torch is not installed")
        return
    torch.manual_seed(seed)
    document = {"kv_cache": [random_body(*shape) for shape in BODIES]}
    try:
        document["paged"] = [random_paged(Random(seed), *case) for case in PAGED]
    except ImportError:
        print(f"kv-cache.json: no `paged`, avp {version} has no page conversion")
    yield "kv-cache.json", document


def random_body(num_layers, num_kv_heads, head_dim, seq_len, dtype):
    import torch

    shape = (1, num_kv_heads, seq_len, head_dim)
    cache = tuple(tuple(torch.randn(shape).to(getattr(torch, dtype)) for _ in range(2)) for _ in range(num_layers))
    body, header = serialize_kv_cache(cache)
    fields = header_fields(header)
    return fields | {"hex": body.hex(), "layers": layers_hex(cache), "estimate": estimate_kv_cache_size(**fields)}


def random_paged(rng, block_size, seq_len, num_blocks, block_table):
    from avp.connectors.page_convert import paged_to_contiguous
    import torch

    num_layers, num_kv_heads, head_dim = rng.choice([(2, 2, 4), (1, 3, 2)])
    blocks = [torch.randn(num_blocks, 2, num_kv_heads, block_size, head_dim) for _ in range(num_layers)]
    gathered = paged_to_contiguous(blocks, torch.tensor(block_table), num_layers, block_size, seq_len)
    return {"num_layers": num_layers, "num_kv_heads": num_kv_heads, "head_dim": head_dim, "block_size": block_size,
            "seq_len": seq_len, "num_blocks": num_blocks, "block_table": block_table,
            "paged": [raw(layer).hex() for layer in blocks], "contiguous": layers_hex(gathered)}


def header_fields(header: KVCacheHeader):
    return {name: getattr(header, name) for name in ("num_layers", "num_kv_heads", "head_dim", "seq_len", "dtype")}


def layers_hex(cache):
    return [{"key": raw(layer[0]).hex(), "value": raw(layer[1]).hex()} for layer in cache]


def raw(values):
    import torch

    # NumPy has no bfloat16, bytes it has.
    return values.contiguous().view(torch.uint8).numpy().tobytes()


def tensor(hex_bytes, dtype, shape):
    import torch

    return torch.frombuffer(bytearray.fromhex(hex_bytes), dtype=getattr(torch, dtype)).reshape(shape)


def compare(ours, expect):
    return [f"{name} differs from the package's" for name in expect if ours[name] != expect[name]]
