package main

var authentication = check{id: 32}
