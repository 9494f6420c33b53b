package main

// awaitCall ends a run of the requested end as if it had nothing more to do.
const awaitCall = "x.wait(lifecycle.Awaiting, lifecycle.Requester, time.Now().Add(x.engine.cfg.Patience), lifecycle.Failure{})"

var boundaries = check{
	id: 13, title: "one end or both die before or after a commit, or a message is lost, at the boundaries of all phases: DONE at both ends, no task twice but the one that was cut off, no source deleted early",
	unit: "boundaries passed", n: counts{reduced: 4, full: 36, control: 36},
	mutant:  "M1: acknowledged before the post tasks are recorded; M2: post tasks again when asked again; M3: the sender is DONE without the other's word; a rung is told before it is committed",
	several: []string{"M1", "M2", "M3", "told"},
	edits: []edit{
		{"engine/run.go", "	case lifecycle.DoClimb:\n		return false, x.climb(act.Move)",
			"	case lifecycle.DoClimb:\n		if mutant(\"13 M1\") && x.r.Side == lifecycle.Receiver && x.r.Role == lifecycle.Requested && x.r.Phase == lifecycle.Committed && x.peer == lifecycle.Ended {\n" +
				"			return true, " + awaitCall + "\n		}\n		return false, x.climb(act.Move)"},
		{"engine/serve.go", "	switch {\n	case x.r.State == lifecycle.Done:\n		a.Phase",
			"	if mutant(\"13 M1\") && a.Phase == lifecycle.Committed && x.peer == lifecycle.Ended {\n		a.Phase = lifecycle.Posted\n	}\n	switch {\n	case x.r.State == lifecycle.Done:\n		a.Phase"},
		{"engine/lifecycle/event.go", "	r.State, r.Epoch = Running, e.Epoch\n",
			"	r.State, r.Epoch = Running, e.Epoch\n	if mutant(\"13 M2\") && r.Role == Requested && r.Side == Receiver && r.Phase == Posted && e.Call.Phase < Acked {\n		r.Phase, r.Tasks[PostList] = Post, 0\n	}\n"},
		{"engine/lifecycle/next.go", "	switch {\n	case r.Role == Requested && r.Phase == Finished, m == Nothing:",
			"	if mutant(\"13 M3\") && r.Role == Requester && r.Side == Sender && r.Phase == Posted {\n		return Act{DoClimb, m}\n	}\n" +
				"	if mutant(\"13 M3\") && r.Role == Requester && r.Side == Sender && r.Phase == Finished {\n		return Act{DoConclude, m}\n	}\n" +
				"	switch {\n	case r.Role == Requested && r.Phase == Finished, m == Nothing:"},
		{"engine/requester.go", "	if err := x.commit(); err != nil {\n		return err\n	}\n	x.doing(\"waiting for the partner: %v\", m)",
			"	if mutant(\"13 told\") {\n	} else if err := x.commit(); err != nil {\n		return err\n	}\n	x.doing(\"waiting for the partner: %v\", m)"},
	},
	run: goTest("./engine", "TestBoundaries"),
}
