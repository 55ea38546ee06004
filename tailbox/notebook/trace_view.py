"""The packet trace as a widget: steps to choose from, and the layers of the chosen message at both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from tailbox.errors import NotFound
from tailbox.notebook.markup import journey_markup, note_markup
from tailbox.notebook.packet_trace import Step

if TYPE_CHECKING:
    from tailbox.notebook.classroom import Classroom

MAX_STEPS_SHOWN = 200
HINT = "Choose a step. Its layers open by a click; sender and receiver stand side by side."


class TraceView:
    """Keeps the list in step with the trace, and the choice where it was."""

    def __init__(self, room: Classroom) -> None:
        self._trace = room.trace
        self._shown: list[Step] = []
        self._seen_version = -1
        self._is_updating = False
        self.recording = widgets.ToggleButton(self._trace.is_recording, description="Record", icon="circle")
        self.with_disco = widgets.Checkbox(True, description="show disco", indent=False)
        self.follow = widgets.Button(description="Follow last request", icon="arrow-right")
        self.clear = widgets.Button(description="Clear", icon="trash")
        self.steps = widgets.Select(options=[], rows=11, layout=widgets.Layout(width="auto"))
        self.layers = widgets.HTML(note_markup(HINT))
        self._connect()
        room.refresher.watch(self.steps, self.update)

    def box(self) -> widgets.Widget:
        for part in (self.recording, self.clear, self.with_disco):
            part.layout = widgets.Layout(width="130px")
        self.follow.layout = widgets.Layout(width="190px")
        bar = widgets.HBox(
            [self.recording, self.follow, self.clear, self.with_disco], layout=widgets.Layout(align_items="center")
        )
        return widgets.VBox([bar, self.steps, self.layers])

    def update(self) -> None:
        """Show what is new; the chosen step stays chosen."""
        if self.recording.value != self._trace.is_recording:
            self.recording.value = self._trace.is_recording
        if self._seen_version == self._trace.version:
            return
        self._seen_version = self._trace.version
        chosen = self._chosen()
        self._shown = self._trace.steps(with_disco=self.with_disco.value)[-MAX_STEPS_SHOWN:]
        began = self._shown[0].at_s if self._shown else 0.0
        self._is_updating = True
        try:
            self.steps.options = [
                (f"{step.at_s - began:7.3f} s  {step.title}", place) for place, step in enumerate(self._shown)
            ]
            self.steps.index = self._place_of(chosen)
        finally:
            self._is_updating = False

    def choose(self, step: Step) -> None:
        """Show the layers of a step and of its other end."""
        self.layers.value = journey_markup(self._trace.journey(step))

    def _connect(self) -> None:
        self.recording.observe(self._on_record, "value")
        self.with_disco.observe(self._on_filter, "value")
        self.follow.on_click(self._on_follow)
        self.clear.on_click(self._on_clear)
        self.steps.observe(self._on_choice, "index")

    def _chosen(self) -> Step | None:
        index = self.steps.index
        return self._shown[index] if index is not None and index < len(self._shown) else None

    def _place_of(self, step: Step | None) -> int | None:
        """A step may have grown by a layer since: its first entry says which it is."""
        if step is None:
            return None
        first = step.entries[0]
        return next((place for place, shown in enumerate(self._shown) if shown.entries[0] == first), None)

    def _on_choice(self, _change: object) -> None:
        step = self._chosen()
        if step is not None and not self._is_updating:
            self.choose(step)

    def _on_record(self, _change: object) -> None:
        self._trace.is_recording = self.recording.value

    def _on_filter(self, _change: object) -> None:
        self._seen_version = -1
        self.update()

    def _on_follow(self, _button: object) -> None:
        try:
            journey = self._trace.follow("GET /")
        except NotFound as error:
            self.layers.value = note_markup(f"{error}: press Record, then HTTP request.")
            return
        self.steps.index = self._place_of(journey.steps[0])
        self.layers.value = journey_markup(journey)

    def _on_clear(self, _button: object) -> None:
        self._trace.clear()
        self.layers.value = note_markup(HINT)
        self.update()


def trace_view(room: Classroom) -> widgets.Widget:
    """The packet trace of a room."""
    return TraceView(room).box()
