// Package engine carries requests out: files that travel between two nodes,
// durably, with tasks before and after. The document is spec/engine.md.
//
// An Engine is one node. It keeps a record of each request in a store, changes
// it through package lifecycle only, and acts on what is committed:
//
//	Submit -> store -> commander -> runner -> Line -> the partner's Engine.Serve
//
// The commander decides what runs when; a runner takes one request through its
// phases; Serve does the same for calls of partners. The network is behind Line
// (package peer is one), files are behind os.Root and sideeffect, time is the
// standard library's, so that a whole pair of nodes runs in testing/synctest.
package engine
