package main

var deadPeer = check{
	id: 17, title: "half-open peer, idle or within a transfer: found by both ends within 20 s, resumed, no goroutine left", unit: "s, slowest", n: counts{reduced: 10, full: 500, control: 2},
	mutant: "no PING is sent and nobody listens for silence",
	edits:  []edit{{"flow/keepalive.go", "				s.check(l)\n", "				if !mutant(\"17\") {\n					s.check(l)\n				}\n"}},
	run:    goTest("./flow", "TestHalfOpenBothEnds"),
}
