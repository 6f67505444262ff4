#!/bin/sh
# Runs the contract as a service, with what the Makefile installed. fabric-chaincode-python
# reads CHAINCODE_ID and CHAINCODE_SERVER_ADDRESS itself. Runs in the manifest's folder.
exec .venv/bin/python contracts/python/contract.py
