"""Thinks and looks at the clock, as often as a script may."""

LOOKS = 490

for number in range(LOOKS):
    think("step number " + str(number))
    time_now()
{"looks": LOOKS}
