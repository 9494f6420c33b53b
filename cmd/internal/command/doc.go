// Package command is what the commands of Pannier have in common: how they
// begin and end, their exit codes, and how they print errors, tables and JSON.
package command
