package main

var bombs = check{id: 36}
