package web

// Fill gives the graph an hour of samples.
func Fill(p *Page, at func(i int) (in, out float64)) {
	for i := range samples {
		in, out := at(i)
		p.graph.add(sample{in, out})
	}
}
