package main

var replay = check{id: 16}
