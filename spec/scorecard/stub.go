package main

var (
	surface, authentication, paths, bombs check
)
