// Package enginetest joins engines in one process, without a network, for
// tests: calls are function calls, bytes go from pump to pump through memory. A
// Wire can lose calls and answers, cut streams, and take nodes away, at chosen
// places, so that what engines do about it can be tried out one by one.
package enginetest
