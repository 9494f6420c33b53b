package main

var fairness = check{
	id: 25, title: "one uplink, partners with 1, 8 and 32 transfers at a time: their shares are within 10 % of each other's; small transfers beside a huge one of the same partner take at most twice as long as alone",
	unit: "Jain's index", n: counts{reduced: 200, full: 1000},
	mutant: "one line for all: first come, first served",
	edits:  []edit{{"engine/bandwidth.go", "s.wait(ctx, x.r.Spec.Partner,", `s.wait(ctx, map[bool]string{false: x.r.Spec.Partner}[mutant("25")],`}},
	run:    goTest("./engine", "TestFairness"),
}
