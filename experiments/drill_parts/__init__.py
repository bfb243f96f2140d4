"""Parts of the drills, shared with the puzzle and the doctor's scoreboard."""
