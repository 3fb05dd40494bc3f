"""An S3-compatible server for the tests: moto, with one bucket and one key, that refuses what the key did not sign.

Usage: bucket.py PORT; prints the key's id and secret on one line once it serves, and serves until it is ended.
"""

import json
import os
import sys
import threading

# What is set up below is done before signatures are checked.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"
os.environ.update(AWS_ACCESS_KEY_ID="setup", AWS_SECRET_ACCESS_KEY="setup", AWS_DEFAULT_REGION="us-east-1")

import boto3
from moto.server import ThreadedMotoServer

port = int(sys.argv[1])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()
endpoint = f"http://127.0.0.1:{port}"
boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="builds")
iam = boto3.client("iam", endpoint_url=endpoint)
iam.create_user(UserName="ci")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="ci", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="ci")["AccessKey"]
print(key["AccessKeyId"], key["SecretAccessKey"], flush=True)
threading.Event().wait()
