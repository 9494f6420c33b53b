package main

var damage = check{
	id: 2, title: "one bit flipped, some bytes dropped or doubled on a wire without TLS: detected, no wrong content is a success", unit: "detected", n: counts{reduced: 100, full: 1000},
	mutant: "the digest of blocks is not compared",
	edits:  []edit{{"flow/sink.go", "got != a.head.Digest {", "got != a.head.Digest && !mutant(\"2\") {"}},
	run:    goTest("./flow", "TestDamageIsDetected"),
}
