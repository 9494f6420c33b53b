package main

var phasePairs = check{
	id: 14, title: "all pairs of phases have one answer at both ends; every world of two ends that can be is right and can be finished, and reaches the pairs that have a move and no others; 13 mutants of the protocol are found",
	unit: "worlds", n: counts{reduced: 1, full: 2},
	mutant: "unknown is a mismatch for a sender that is POSTED",
	edits:  []edit{{"engine/lifecycle/reconcile.go", `"F.......RF"`, `map[bool]string{false: "F.......RF", true: "........RF"}[mutant("14")]`}},
	run:    goTest("./engine/lifecycle", "TestModel"),
}
