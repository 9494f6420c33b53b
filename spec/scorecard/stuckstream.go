package main

var stuckStream = check{
	id: 18, title: "one of 100 streams is never read: the others keep >= 95 % of their rate and none of them less than a quarter of the mean, memory stays within the session's budget",
	unit: "% of the rate, worst", n: counts{reduced: 1, full: 20, control: 5},
	mutant: "the reader of a lane waits for a stream's consumer",
	edits: []edit{{"flow/sink.go", "	b.file(a)\n	if int64(", "	b.file(a)\n	for mutant(\"18\") && len(b.ready) > 0 && !b.closed {\n		b.mu.Unlock()\n		time.Sleep(time.Millisecond)\n		b.mu.Lock()\n	}\n" +
		"	if int64("}},
	run: goTest("./flow", "TestStuckStream"),
}
