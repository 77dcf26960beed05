package render

// Look has a Runner look at its spares now.
func Look(r *Runner) {
	r.pool.mu.Lock()
	var all []*spare
	for _, sp := range r.pool.spares.of {
		all = append(all, sp)
	}
	r.pool.mu.Unlock()
	for _, sp := range all {
		r.pool.look(sp)
	}
}
