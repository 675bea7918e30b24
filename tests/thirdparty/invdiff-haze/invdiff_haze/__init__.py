"""Unknown haze for invdiff."""

from invdiff.hookspecs import Register, hookimpl


@hookimpl
def register_degradations(register: Register) -> None:
    from .operator import Haze

    register("haze", Haze, summary="unknown uniform haze", reference="Koschmieder (1924)")
