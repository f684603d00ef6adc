#!/usr/bin/env python3
"""Makes docs/recording.svg, README's recording, from the real program in a real terminal. Needs tmux.

    cargo build --release && docs/record.py target/release/customer-import docs/recording.svg

Types the commands below into tmux, takes a picture of the screen ten times a second, and writes every picture that differs from the one
before as a group of the SVG, shown at its time by CSS: no script, nothing loaded. Who prefers reduced motion sees the last picture.
"""

import html
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

WIDTH, HEIGHT = 100, 26
CELL_WIDTH, CELL_HEIGHT = 8.4, 18
INK, PAPER = "#d8dee9", "#1b1f27"
# The colors of a terminal that the program uses, by their SGR codes.
COLORS = {31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#76e3ea"}
LONGEST_STILL = 2.0
COMMANDS = [
    "customer-import validate users.csv --phone-region IN",
    "customer-import import users.csv --phone-region IN --simulator --rate 150",
]


def tmux(*arguments):
    return subprocess.run(["tmux", "-L", "recording", *arguments], check=True, capture_output=True, text=True).stdout


def screen():
    return tmux("capture-pane", "-p", "-e", "-t", "recording")


def rest(frames, began, text):
    """Adds the screen to the frames if it is a new one."""
    if not frames or frames[-1][1] != text:
        frames.append((time.monotonic() - began, text))


def record(folder):
    """(second, screen) for every screen that differs from the one before."""
    tmux("-f", "/dev/null", "new-session", "-d", "-s", "recording", "-x", str(WIDTH), "-y", str(HEIGHT), "-c", folder,
         "env", f"PATH={folder}:{os.environ['PATH']}", "PS1=$ ", "HOME=" + folder, "bash", "--norc", "--noprofile")
    tmux("set", "-t", "recording", "status", "off")
    time.sleep(0.5)
    frames, began = [], time.monotonic()
    for command in COMMANDS:
        # Ctrl-L: each command begins on an empty screen.
        tmux("send-keys", "-t", "recording", "C-l")
        for letter in command:
            tmux("send-keys", "-t", "recording", "-l", letter)
            time.sleep(0.03)
            rest(frames, began, screen())
        tmux("send-keys", "-t", "recording", "Enter")
        # The next prompt, below output, is the end of the command.
        time.sleep(0.5)
        ended = time.monotonic() + 60
        while screen().rstrip().splitlines()[-1].strip() != "$" and time.monotonic() < ended:
            rest(frames, began, screen())
            time.sleep(0.1)
        rest(frames, began, screen())
        time.sleep(2)
    tmux("kill-server")
    return frames


def spans(line):
    """A line of tmux as tspans: colors, bold and dim."""
    out, style = [], {}
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            attributes = "".join(f' {name}="{value}"' for name, value in style.items())
            out.append(f"<tspan{attributes}>{html.escape(part)}</tspan>" if attributes and part else html.escape(part))
            continue
        for code in [int(code or 0) for code in part[2:-1].split(";")]:
            if code in (0, 39):
                style = {} if code == 0 else {k: v for k, v in style.items() if k != "fill"}
            elif code == 1:
                style["font-weight"] = "bold"
            elif code == 2:
                style["opacity"] = "0.65"
            elif code in COLORS:
                style["fill"] = COLORS[code]
    return "".join(out)


def svg(frames):
    # Long stills say nothing: they are cut.
    times, now = [], 0.0
    for (at, _), (following, _) in zip(frames, frames[1:] + [(frames[-1][0] + 4, "")]):
        times.append(now)
        now += min(following - at, 4 if following - at >= 4 else LONGEST_STILL)
    width, height = WIDTH * CELL_WIDTH + 24, HEIGHT * CELL_HEIGHT + 24
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="A file is checked and imported into the simulator">',
           "<style>text{font:14px ui-monospace,Menlo,Consolas,monospace;white-space:pre;fill:" + INK + "}"
           + f"g{{visibility:hidden;animation:f {now:.2f}s infinite}}"]
    for number, start in enumerate(times):
        end = times[number + 1] if number + 1 < len(times) else now
        out.append(f"#f{number}{{animation-name:k{number}}}@keyframes k{number}{{0%,{100 * end / now:.3f}%{{visibility:hidden}}"
                   f"{100 * start / now:.3f}%{{visibility:visible}}}}".replace("0%,100.000%{visibility:hidden}", "0%{visibility:hidden}"))
    last = len(times) - 1
    out.append(f"g{{animation-timing-function:step-end}}@media(prefers-reduced-motion){{g{{animation:none!important}}#f{last}{{visibility:visible}}}}</style>")
    out.append(f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>')
    for number, (_, text) in enumerate(frames):
        rows = [f'<text x="12" y="{26 + row * CELL_HEIGHT:.0f}">{spans(line)}</text>' for row, line in enumerate(text.rstrip("\n").split("\n")) if line.strip()]
        out.append(f'<g id="f{number}">' + "".join(rows) + "</g>")
    return "\n".join(out) + "\n</svg>\n"


def main():
    program, output = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(pathlib.Path(program).resolve(), f"{folder}/customer-import")
        names = ["Asha", "Ravi", "Meera", "Arjun", "Mary Ann"]
        rows = [f"user-{i:06},+91 98765 {i:05},{names[i % 4] if i % 97 else names[4]}" for i in range(1, 1501)]
        pathlib.Path(folder, "users.csv").write_text("\n".join(["object_reference_id,mobile_number,first_name"] + rows) + "\n")
        pathlib.Path(output).write_text(svg(record(folder)))


main()
