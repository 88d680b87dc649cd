"""Calls of handlers with what FastDepends would give them, for less."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fast_depends.core import CallModel
from faststream.message import StreamMessage

from faststream_pubsub._faststream import ContextField, ContextRepo

Message: TypeAlias = StreamMessage[Any]
Call: TypeAlias = Callable[[Any], Awaitable[Any]]


def lean_call(model: CallModel, context: ContextRepo) -> Call | None:
    """Call a handler with what FastDepends would give it, without its solver.

    That serves a handler with one parameter for the body and any number of `Context` parameters:
    there is nothing to open and close, nothing to override and nothing to cache. The solver looks
    each `Context` up in a thread; here that is a call.

    Args:
        model: FastDepends' model of the handler.
        context: What its `Context` parameters are looked up in.

    Returns:
        What takes a message; None where the solver is needed.
    """
    if not _is_simple(model):
        return None
    (body_name,) = model.positional_args
    names = (*model.keyword_args, body_name)
    fields = tuple(model.custom_fields.values())
    call, serializer = model.call, model.serializer

    async def call_handler(message: Message) -> object:
        given: dict[str, Any] = {"context__": context, body_name: await message.decode()}
        for field in fields:
            given = field.use(**given)
        if serializer is not None:
            given.update(serializer(given))
        result = await call(**{name: given[name] for name in names if name in given})
        return result if serializer is None else serializer.response(result)

    return call_handler


def _is_simple(model: CallModel) -> bool:
    return (
        model.is_async
        and not model.is_generator
        and not model.dependencies
        and not model.extra_dependencies
        and model.args_name is None
        and model.kwargs_name is None
        and len(model.positional_args) == 1
        and [param.field_name for param in model.params] == list(model.positional_args)
        and all(
            # an `initial` of a user's may block
            type(field) is ContextField and not field.field and field.initial is None
            for field in model.custom_fields.values()
        )
    )
