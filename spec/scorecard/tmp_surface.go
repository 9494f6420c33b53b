package main

var surface = check{id: 31}
