"""ipywidgets views for classrooms: a tailnet in the kernel's process, looked at from every side.

```python
from tailbox.notebook import Classroom

room = await Classroom.start(["alpha", "beta", "gamma"])
room.show()
```
"""

from tailbox.notebook.classroom import Classroom

__all__ = ["Classroom"]
