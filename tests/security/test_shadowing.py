"""What an archive holds runs and shadows nothing in server, zygote or worker (SEC-26)."""

import textwrap

HOSTILE = ["setup.py", "sitecustomize.py", "usercustomize.py", "statistics.py", "marserve.py"]
HANDLER = """
    import os
    import sys


    def handle(data, context):
        if data is None:
            return None
        import colorsys, json, statistics  # none of which was needed before
        import marserve

        return [{
            "json": json.loads("[1]"),
            "mean": statistics.mean([1, 3]),
            "colorsys": colorsys.rgb_to_hsv(0, 0, 0)[2],
            "marserve": bool(marserve.__path__),
            "helper": __import__("its_own_helper").WORD,
        }]
"""


def test_files_that_python_would_run_or_take_for_others_are_only_files(server, tmp_path):
    ran = tmp_path / "ran"
    source = tmp_path / "source"
    source.mkdir()
    trace = f"import os; open({str(ran)!r}, 'a').write(__file__ + chr(10))\n"
    for name in (*HOSTILE, "colorsys.py"):
        (source / name).write_text(trace)
    (source / "evil.pth").write_text(f"import os; open({str(ran)!r}, 'a')\n")
    (source / "its_own_helper.py").write_text("WORD = 'helps'\n")
    (source / "json.py").write_text(textwrap.dedent(HANDLER))
    extra = ",".join(
        str(source / name) for name in (*HOSTILE, "colorsys.py", "evil.pth", "its_own_helper.py")
    )
    server.pack("shadow", str(source / "json.py"), extra_files=extra)
    server.pack("plain", "echo.py")
    server.start(load_models="shadow.mar", install_py_dep_per_model="true")

    told = server.predict("shadow").json()

    assert told == {"json": [1], "mean": 2, "colorsys": 0, "marserve": True, "helper": "helps"}
    reply = server.manage("POST", "/models?url=plain.mar&initial_workers=1&synchronous=true")
    assert reply.status == 200  # forked from the same zygote
    assert server.predict("plain").status == 200
    assert not ran.exists()
