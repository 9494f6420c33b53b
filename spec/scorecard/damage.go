package main

var damage = check{
	id: 2, title: "one bit flipped, one frame lost or doubled on a wire without TLS: noticed or harmless, nothing wrong is a success, nobody waits for ever", unit: "sessions right", n: counts{reduced: 120, full: 1000},
	mutant: "the digest of blocks is not compared",
	edits:  []edit{{"flow/sink.go", "got != a.head.Digest {", "got != a.head.Digest && !mutant(\"2\") {"}},
	run:    goTest("./flow", "TestDamagedSessions", "-flow.seeds=%d"),
}
