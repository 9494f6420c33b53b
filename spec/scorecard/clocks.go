package main

var clocks = check{
	id: 15, title: "one end's clock is a day off, is set each second by up to a day, or the node sleeps for ten minutes, while connections are lost: DONE at both ends, no attempt early, no deadline, nothing waits longer",
	unit: "failures", n: counts{reduced: 16, full: 200, control: 8},
	mutant: "what waits goes by the clock",
	edits:  []edit{{"engine/commander.go", "	w.due, w.dated = due, w.start\n", "	w.due, w.dated = due, w.start || mutant(\"15\")\n"}},
	run:    goTest("./engine", "TestClocks"),
}
