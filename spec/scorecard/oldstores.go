package main

var oldStores = check{
	id: 29, title: "a process is killed while it brings the store of an older version to its own format: the next one finds all that was there, and the file as it was beside it", unit: "kills survived", n: counts{reduced: 10, full: 200},
	mutant: "the file itself is changed, not a copy",
	edits:  []edit{{"engine/boltstore/migrate.go", "	if err := copyFile(held, fresh); err != nil {", "	if mutant(\"29\") {\n		fresh = path\n		held.Close()\n	} else if err := copyFile(held, fresh); err != nil {"}},
	run:    goTest("./engine/boltstore", "TestMigrateKilled"),
}
