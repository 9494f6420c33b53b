package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/answers"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/engine/schedule"
)

// TestHungDirectories: what is in a file system that does not answer holds up no check, and is told of.
func TestHungDirectories(t *testing.T) {
	goOn := make(chan struct{})
	defer func(was *answers.Answers[bool]) { close(goOn); isDirectory = was }(isDirectory)
	isDirectory = answers.To(func(dir string) bool {
		if strings.HasPrefix(dir, "/hung") {
			<-goOn
		}
		return dir == "/well"
	})
	cfg := &config.Config{
		Book:      engine.Book{Rules: map[string]*engine.Rule{"a": {Root: "/hung"}, "b": {Root: "/well"}, "c": {Root: "/none"}}},
		Folders:   map[string]folder.Folder{"f": {Root: "/hung"}, "g": {Root: "/well"}},
		Schedules: map[string]schedule.Schedule{"s": {Root: "/hung", Source: "in/x", Send: true}},
	}
	got := slices.Concat(rootWarnings(cfg), folderWarnings(cfg), scheduleWarnings(cfg))
	want := []string{
		"rule a: the file system of /hung does not answer; its requests will fail until it does",
		"rule c: there is no directory /none on this host; its requests will fail until there is",
		"folder f: the file system of /hung does not answer; nothing is found until it does",
		"schedule s: the file system of /hung/in does not answer; nothing is found until it does",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
