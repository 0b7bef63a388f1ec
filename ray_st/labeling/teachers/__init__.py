"""Teachers from elsewhere: one file a kind, all of them `TeacherSource`s. docs/teachers.md.

In: what `--teacher`, `--classes` and `--class-map` say. Out: a `TeacherSource`, or `UserError`.
Start at `opening.py`.
"""
