"""The same layers as a graph that onnxruntime runs: built from numpy's matrices, in memory, when it is opened."""

from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxy.encoder.bert import EPSILON, HEADS, PHI, PHI_BOUND, WIDTH, Layers
from proxy.encoder.weights import Array
from proxy.errors import ModelError

INTRA_OP_THREADS = 1
"""For one pass. The processors are shared with everything else; `semantic.embedder.threads` has more passes at once."""

FUSED = "com.microsoft"
"""onnxruntime's own operators, in every build of it: attention, and what follows a product, in one pass each."""

OPSET = 17
IR_VERSION = 8
"""Of 2022: a runtime reads what is older than itself, and nothing newer is needed."""

ERRORS_ONLY = 3

MASKED = -10000.0

LARGEST = 63
"""Of the whole numbers that stand for a matrix."""


def absent() -> str:
    """Which package is not installed, and what to do; empty where all are. Nothing is imported yet."""
    for name in ("onnxruntime", "onnx"):
        if find_spec(name) is None:
            return f"needs the package {name}: pip install askonce[onnxruntime]"
    return ""


class Graph:
    """Layers that onnxruntime runs. Any thread may use them."""

    def __init__(self, layers: Layers, *, rough: bool = False) -> None:
        """Build and open it: some hundreds of milliseconds. *rough* multiplies whole numbers, see ``in_whole_numbers``.

        Raises:
            ModelError: onnxruntime is not here, is broken, or does not take the graph.
        """
        try:
            runtime = import_module("onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = INTRA_OP_THREADS
            options.inter_op_num_threads = 1
            options.log_severity_level = ERRORS_ONLY
            # Texts differ in length: an arena would keep the memory of the longest batch for good.
            options.enable_cpu_mem_arena = False
            self._session: Any = runtime.InferenceSession(
                _octets(layers, rough=rough), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # A broken installation and a refused graph raise all sorts; its own have no class but Exception in common.
            raise ModelError(f"onnxruntime cannot open the model: {error}; `semantic.backend: numpy` can") from error
        self._outputs = [_after(number) for number in layers.wanted]

    def __repr__(self) -> str:
        return "<Graph on onnxruntime>"

    def through(self, x: Array, mask: Array) -> tuple[Array, ...]:
        """See :meth:`proxy.encoder.bert.Layers.through`."""
        try:
            return tuple(self._session.run(self._outputs, {"x": x, "mask": mask.astype(np.int32)}))
        except Exception as error:
            raise ModelError(f"onnxruntime failed: {error}") from error


def _after(number: int) -> str:
    return f"{number}.after"


def in_whole_numbers(matrix: Array) -> tuple[NDArray[np.int8], Array]:
    """*matrix* (a, b) in whole numbers, and what each of its columns (b,) was divided by.

    Products take half the time and shift a state by a hundredth: nothing for a score, too much for vectors, which are
    kept and compared with others. Seven bits, because processors without VNNI add two products in sixteen.
    """
    scale = np.maximum(np.abs(matrix).max(axis=0), np.float32(1e-12)) / np.float32(LARGEST)
    return np.rint(matrix / scale).astype(np.int8), scale.astype(np.float32)


def _octets(layers: Layers, *, rough: bool) -> bytes:
    """*layers*, serialised; the embeddings stay in the mapped file, which all processes share."""
    onnx = import_module("onnx")
    made: ModuleType = onnx.helper
    nodes: list[object] = []
    numbers = {"lowest": -PHI_BOUND, "highest": PHI_BOUND, "phi 0": PHI[0], "phi 1": PHI[1], "phi 2": PHI[2]}
    constants = [onnx.numpy_helper.from_array(np.array(number), name) for name, number in numbers.items()]
    x = "x"
    for number, layer in enumerate(layers.layers, 1):
        nodes += _layer(made, number, x, _after(number), rough=rough)
        for name in (each.name for each in fields(layer)):
            matrix: Array = getattr(layer, name)
            if rough and matrix.ndim > 1:
                whole_numbers, scale = in_whole_numbers(matrix)
                constants.append(onnx.numpy_helper.from_array(whole_numbers, f"{number}.{name}"))
                constants.append(onnx.numpy_helper.from_array(scale, f"{number}.{name}.scale"))
            else:
                constants.append(onnx.numpy_helper.from_array(matrix, f"{number}.{name}"))
        x = _after(number)
    floats, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    states = ["n", "t", WIDTH]
    graph = made.make_graph(
        nodes,
        "bert",
        [made.make_tensor_value_info("x", floats, states), made.make_tensor_value_info("mask", whole, ["n", "t"])],
        [made.make_tensor_value_info(name, floats, states) for name in map(_after, layers.wanted)],
        constants,
    )
    versions = [made.make_opsetid("", OPSET), made.make_opsetid(FUSED, 1)]
    octets: bytes = made.make_model(graph, opset_imports=versions, ir_version=IR_VERSION).SerializeToString()
    return octets


def _layer(made: ModuleType, number: int, x: str, after: str, *, rough: bool) -> list[object]:
    """One layer's nodes, from the states named *x* to those named *after*."""

    def own(*names: str) -> list[str]:
        return [f"{number}.{name}" for name in names]

    def fused(kind: str, inputs: list[str], output: str, **settings: float) -> object:
        return made.make_node(kind, inputs, [output], domain=FUSED, **settings)

    def plain(kind: str, inputs: list[str], *outputs: str) -> object:
        return made.make_node(kind, inputs, own(*outputs))

    def product(states: str, matrix: str, output: str) -> object:
        if rough:
            return fused("DynamicQuantizeMatMul", own(states, matrix, f"{matrix}.scale"), own(output)[0])
        return plain("MatMul", own(states, matrix), output)

    def attention(output: str) -> list[object]:
        heads = {"num_heads": HEADS, "mask_filter_value": MASKED}
        if not rough:
            return [fused("Attention", [x, *own("qkv", "qkv_bias"), "mask"], output, **heads)]
        parts = own("x whole", "qkv", "qkv_bias", "x scale", "qkv.scale")
        return [
            plain("DynamicQuantizeLinear", [x], "x whole", "x scale", "x zero"),
            fused("QAttention", [*parts, "mask", *own("x zero")], output, **heads),
        ]

    mixed, attended, middle, narrow = own("mixed", "attended", "states", "narrow")
    epsilon = float(EPSILON)
    return [
        *attention(mixed),
        product("mixed", "out", "attended"),
        fused("SkipLayerNormalization", [attended, x, *own("norm", "norm_bias", "out_bias")], middle, epsilon=epsilon),
        product("states", "up", "up states"),
        plain("Add", own("up states", "up_bias"), "wide"),
        # The very polynomial of ``gelu``: with onnxruntime's own one, states differ by 1e-3, and a score in which trees
        # have a part jumps where a number passes a threshold. With this one they differ by 1e-5.
        plain("Clip", [*own("wide"), "lowest", "highest"], "bounded"),
        plain("Mul", own("bounded", "bounded"), "square"),
        plain("Mul", [*own("square"), "phi 2"], "fifth"),
        plain("Add", [*own("fifth"), "phi 1"], "third"),
        plain("Mul", own("third", "square"), "even"),
        plain("Add", [*own("even"), "phi 0"], "first"),
        plain("Mul", own("first", "bounded"), "odd"),
        plain("Sigmoid", own("odd"), "share"),
        plain("Mul", own("wide", "share"), "bent"),
        product("bent", "down", "narrow"),
        fused(
            "SkipLayerNormalization",
            [narrow, middle, *own("last_norm", "last_norm_bias", "down_bias")],
            after,
            epsilon=epsilon,
        ),
    ]
