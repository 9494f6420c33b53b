package main

var outage = check{
	id: 23, title: "a partner is away for an hour, requests are queued and 200 were on their way, then it is back: one dial at a time and few of them, no calls meanwhile, drained at 80 % of the normal rate or more, p99 of another partner at most doubled",
	unit: "dials in the hour", n: counts{reduced: 100, full: 5000, control: 50},
	mutant:  "each request dials; no back-off",
	several: []string{"single", "back-off"},
	edits: []edit{
		{"engine/commander.go", "	case l.reaching || e.cfg.Line == nil:", "	case l.reaching && !mutant(\"23 single\") || e.cfg.Line == nil:"},
		{"engine/commander.go", "	case l.retryAt.After(now):", "	case l.retryAt.After(now) && !mutant(\"23 back-off\"):"},
	},
	run: goTest("./engine", "TestOutage"),
}
