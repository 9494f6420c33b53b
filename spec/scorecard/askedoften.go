package main

var askedOften = check{
	id: 12, title: "requests submitted and called 1 to 5 times at once, and again after a restart of both nodes: one record at each end, each task once, others of the same id refused",
	unit: "doubled or taken wrongly", n: counts{reduced: 100, full: 10_000, control: 50},
	mutant: "the store does not look whether the key is there",
	edits: []edit{{"engine/boltstore/record.go", "		case err == nil && old.Side == r.Side",
		"		case err == nil && mutant(\"12\"):\n			made = true\n			return s.put(c, key, &old, &r, name, r.Registered)\n		case err == nil && old.Side == r.Side"}},
	run: goTest("./engine", "TestAskedOften"),
}
