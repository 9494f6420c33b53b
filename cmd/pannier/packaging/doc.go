// Package packaging has what is shipped beside the program, and tests of it: the deb that
// .ci/package makes of nfpm.yaml, the unit, the container file, the sidecar. spec/packaging.md is
// for whoever installs it.
package packaging
