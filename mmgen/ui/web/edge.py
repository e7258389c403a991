"""The edge between gradio and the studio, where every event of the page and every endpoint goes in and comes out.

What comes in is checked once, by the types that the functions of the page's events declare. What goes wrong comes out
as a sentence: a `UserError` is one already; what a request provoked before it reached the studio's code is its own
fault; and the rest is a fault of the studio, whose traceback goes to the log while the person is told that. Nobody is
told where something lies on a Space's disk.
"""

from __future__ import annotations

import inspect
import sys
import traceback
import types
import typing
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.helpers import EventData

import mmgen
from mmgen.errors import UserError
from mmgen.space import without_paths
from mmgen.training.common.control import is_disk_full

NOT_UNDERSTOOD = "The page sent something else than was expected. Reload it."
_FAULT = "Something went wrong in the studio. It is in its log; try again, or with other values."
_DISK_FULL = "The disk of the studio is full. Try again later."
_NO_MEMORY = "The studio's memory is full at the moment. Try again later, or with less at once."
_CODE = str(Path(mmgen.__file__).resolve().parent)
_PLAIN = (str, int, float, bool, dict, list)


class GuardedBlocks(gr.Blocks):
    """The page, with that edge."""

    async def preprocess_data(self, *args, **kwargs):
        """What was sent, as the components read it."""
        try:
            return await super().preprocess_data(*args, **kwargs)
        except gr.Error as error:
            raise _told(error.message) from None
        except Exception:
            raise _told(NOT_UNDERSTOOD) from None

    async def call_function(self, block_fn, processed_input, *args, **kwargs):
        """Call what an event or an endpoint does."""
        fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if fn.api_visibility == "private" and fn.fn is not None and kwargs.get("iterator") is None:
            processed_input = checked(fn.fn, processed_input)
        return await super().call_function(block_fn, processed_input, *args, **kwargs)

    async def process_api(self, *args, **kwargs):
        """All of that. What an event tells beside its values is an object; the text of a changed field is dropped."""
        event = kwargs.get("event_data")
        if event is not None and not isinstance(event._data, dict):
            event._data = None
        try:
            return await super().process_api(*args, **kwargs)
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise explained(error) from None


def checked(function: Any, values: list[Any]) -> list[Any]:
    """The values that a function is to be called with, such that each is of the kind that the function declares.

    A text that is missing is an empty one. Numbers may be missing, as an emptied field sends them.

    Raises:
        gr.Error: one is of another kind.
    """
    kinds = iter(_kinds(function))
    return [_checked(value, next(kinds, None)) for value in values]


def _kinds(function: Any) -> list[type | None]:
    """Of each parameter that takes a value the plain type that it declares, if it does."""
    hints = _hints(function)
    kinds = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        hint = hints.get(parameter.name)
        if _is_given_by_gradio(hint, parameter.default):
            continue
        kinds.append(hint if hint in _PLAIN else None)
    return kinds


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(getattr(function, "__func__", function))
    except (NameError, TypeError):
        return {}


def _is_given_by_gradio(hint: Any, default: Any) -> bool:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    given = (gr.Request, gr.OAuthProfile, gr.OAuthToken, EventData)
    return isinstance(default, gr.Progress) or any(inspect.isclass(one) and issubclass(one, given) for one in options)


def _checked(value: Any, kind: type | None) -> Any:
    if kind is None:
        return value
    if value is None:
        return "" if kind is str else {} if kind is dict else [] if kind is list else value
    takes = (int, float) if kind is float else kind
    if not isinstance(value, takes) or (isinstance(value, bool) and kind is not bool):
        raise _told(NOT_UNDERSTOOD)
    return value


def explained(error: Exception) -> gr.Error:
    """What a person is told of an error; one that nobody foresaw goes to the log."""
    if isinstance(error, gr.Error):
        return _told(error.message)
    if isinstance(error, UserError):
        return _told(str(error))
    if isinstance(error, OSError) and is_disk_full(error):
        return _told(_DISK_FULL)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _told(_NO_MEMORY)
    if not _is_ours(error):
        sys.stderr.write(f"mmgen: an event was not understood ({type(error).__name__})\n")
        return _told(NOT_UNDERSTOOD)
    sys.stderr.write("".join(traceback.format_exception(error)))
    return _told(_FAULT)


def _is_ours(error: BaseException) -> bool:
    """Whether the studio's own code was reached, but for this edge."""
    frames = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith(_CODE) and name != __file__ for name in frames)


def _told(sentence: object) -> gr.Error:
    return gr.Error(without_paths(str(sentence)), print_exception=False)
