package main

var paths = check{id: 35}
