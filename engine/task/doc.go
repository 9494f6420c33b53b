// Package task is what a node does to a file before and after it travels: a
// rule names lists of tasks, a runner runs them one by one.
//
// A task is one type in one file, made from its table in the configuration by a
// Maker; Standard lists them. A task does its work twice without harm, because a crash in
// the middle of it means that it runs again under the same key; an external
// command gets that key in its environment.
//
// Files are below the rule's root, named by relpath.Path and opened through os.Root. No
// shell is ever involved: a command is an argument vector, and a variable is
// replaced inside of one argument, once, after the vector is made.
package task
