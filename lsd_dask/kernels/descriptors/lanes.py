"""Eight float32 side by side in a register, as a numba type.

LLVM vectorises the innermost loop only, and only where it is long. The sums of the shape descriptors are the
opposite: short runs of voxels (outer loop), each the sum over a window (inner loop). With `Lanes`, eight
neighbouring voxels are one value. On machines with narrower registers LLVM splits it; the result is the same
bits everywhere, because `multiply_add` rounds once by definition.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, models, overload, register_model

#: Number of voxels in a `Lanes`.
LANES = 8

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INDEX = ir.IntType(32)
_BYTES = ir.IntType(8).as_pointer()


class Lanes(types.Type):
    """Numba type of eight float32 values."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)  # type: ignore[no-untyped-call]


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `numba.extending.intrinsic`, typed by what kernels see: a function without the typing context."""
    return intrinsic(function)


@_intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """The eight float32 from ``array[index]`` on; `array` is flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], *arguments)
        return builder.load(builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)

    return lanes(array, types.intp), generate


@_intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight float32 to ``array[index]`` and on; `array` is flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(pointer, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@_intrinsic
def load_difference(typing_context: Any, array: Any, index: Any, other: Any) -> Any:
    """Eight float64 from ``array[index]`` on less those from ``array[other]`` on, rounded to float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, values = signature.args[0], arguments[0]
        minuend, subtrahend = (
            builder.load(
                builder.bitcast(_address(context, builder, array_type, values, i), _DOUBLES.as_pointer()),
                align=8,
            )
            for i in arguments[1:]
        )
        return builder.fptrunc(builder.fsub(minuend, subtrahend), _FLOATS)

    return lanes(array, types.intp, types.intp), generate


@_intrinsic
def fill(typing_context: Any, value: Any) -> Any:
    """Eight times the same float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(_INDEX, 0))
        return builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
        )

    return lanes(types.float32), generate


@_intrinsic
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """A * b + c, rounded once."""
    return lanes(lanes, lanes, lanes), _call("fma", 3)


@_intrinsic
def square_root(typing_context: Any, a: Any) -> Any:
    """Square root of every lane."""
    return lanes(lanes), _call("sqrt", 1)


@_intrinsic
def largest(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of each pair of lanes."""
    return lanes(lanes, lanes), _call("maxnum", 2)


@_intrinsic
def smallest(typing_context: Any, a: Any, b: Any) -> Any:
    """The smaller of each pair of lanes."""
    return lanes(lanes, lanes), _call("minnum", 2)


@_intrinsic
def where_greater(typing_context: Any, a: Any, b: Any, value: Any, otherwise: Any) -> Any:
    """`value` in the lanes where a > b, `otherwise` in the others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, value, otherwise = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), value, otherwise)

    return lanes(lanes, lanes, lanes, lanes), generate


def _call(name: str, arity: int) -> Callable[..., Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function_type = ir.FunctionType(_FLOATS, [_FLOATS] * arity)
        function = get_or_insert_function(builder.module, function_type, f"llvm.{name}.v{LANES}f32")
        return builder.call(function, arguments)

    return generate


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _arithmetic(instruction: str) -> Callable[..., Any]:
    def intrinsic_of(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return lanes(lanes, lanes), generate

    return _intrinsic(intrinsic_of)


_add, _subtract, _multiply, _divide = map(_arithmetic, ("fadd", "fsub", "fmul", "fdiv"))


def _overload_operator(symbol: Callable[..., Any], instruction: Callable[..., Any]) -> None:
    @overload(symbol)
    def typed(a: Any, b: Any) -> Any:
        def of_lanes(a: Any, b: Any) -> Any:
            return instruction(a, b)

        return of_lanes if isinstance(a, Lanes) and isinstance(b, Lanes) else None


_overload_operator(operator.add, _add)
_overload_operator(operator.sub, _subtract)
_overload_operator(operator.mul, _multiply)
_overload_operator(operator.truediv, _divide)
